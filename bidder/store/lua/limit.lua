-- What an advertiser may commit per minute, over all workers and hosts: the only writer of it.
--
-- KEYS  1 taken (hash: second -> micros handed out in it)
-- ARGV  now (seconds), window (seconds), limit micros, wanted micros, then pairs: second, micros to
--       hand back of what was taken in it, or later
-- -> micros handed out now
--
-- What is handed out may be used for a few seconds; `window` is a minute and as many seconds more, so
-- that no minute, wherever it begins, can hold more than the limit.

local now, window, limit, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 5, #ARGV, 2 do
  if tonumber(ARGV[i]) > now - window then
    redis.call('HINCRBY', KEYS[1], ARGV[i], -ARGV[i + 1])
  end
end
local taken = 0
local rows = redis.call('HGETALL', KEYS[1])
for i = 1, #rows, 2 do
  if tonumber(rows[i]) <= now - window then
    redis.call('HDEL', KEYS[1], rows[i])
  else
    taken = taken + tonumber(rows[i + 1])
  end
end
local granted = math.max(math.min(wanted, limit - taken), 0)
redis.call('HINCRBY', KEYS[1], tostring(now), string.format('%.0f', granted))
redis.call('EXPIRE', KEYS[1], window)
return granted
