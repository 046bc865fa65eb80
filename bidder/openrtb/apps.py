"""What is an app called? Its store id, in one spelling (OpenRTB 2.6 §3.2.14 `bundle`)."""


def app_id(text: str) -> str:
    """A store id in one spelling: in lower case, and iOS numbers without the ``id`` of their URL.

    Android's names tell capitals apart, but no two apps differ in them alone, and lists of blocked
    apps are written carelessly.
    """
    text = text.strip().lower()
    number = text.removeprefix("id")
    return number if number.isdecimal() else text
