"""The wire: OpenRTB 2.5 and 2.6 requests and responses, code lists, prices."""
