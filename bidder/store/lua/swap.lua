-- Replace a value if it still is what was read.
--
-- KEYS[1]  the value
-- ARGV     what was read ('' = none), what to write, ttl (seconds) if there was none
-- -> 1: written; 0: it is another by now

local found = redis.call('GET', KEYS[1])
if (found or '') ~= ARGV[1] then return 0 end
if found then
  redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
else
  redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
end
return 1
