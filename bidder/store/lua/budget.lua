-- The money of one campaign: the only writer of it. All keys share the slot {campaign}.
--
-- KEYS  1 money (hash: spent, spent:DAY, impressions, impressions:DAY, clicks, conversions)
--       2 leases (hash: DAY:HOLDER -> "micros impressions until")
--       3 holds of one holder (hash: BUCKET:resolved, BUCKET:bids, BUCKET:billed)
--       4 seen (set of what was counted, of one day)       5 unbilled (sorted set of bid ids)
--       6 unbilled events (hash: bid id -> the event to log)
-- ARGV  operation, now (seconds), then by operation:
--   sync     holder, day, lease seconds, total, daily, total impressions, daily impressions (0 =
--            no limit), outstanding micros, outstanding bids, wanted micros, wanted bids, buckets...
--            -> leased micros and impressions, spent, spent today, impressions, impressions today,
--               then per bucket: its number, resolved micros, resolved bids, billed micros
--   bill     bid id, day, holder, bucket, held micros, cost micros, keep seconds, counters keep
--            -> "new" or "duplicate"
--   resolve  bid id, holder, bucket, held micros, keep seconds -> "new" or "duplicate"
--   once     bid id, kind, keep seconds -> "new" or "duplicate"
--   await    bid id, due, event, keep seconds -> "new" or "duplicate" (billed, or awaited, already)
--   due      most -> the events whose billing did not come in time

local money, leases, holds, seen, unbilled, events = unpack(KEYS)
local operation, now = ARGV[1], tonumber(ARGV[2])

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or 0)
end

local function count_once(member, keep)
  if redis.call('SADD', seen, member) == 0 then return false end
  redis.call('EXPIRE', seen, keep)
  return true
end

local function resolve(bid, holder, bucket, held, keep)
  if not count_once('r' .. bid, keep) then return false end
  redis.call('HINCRBY', holds, bucket .. ':resolved', held)
  redis.call('HINCRBY', holds, bucket .. ':bids', 1)
  redis.call('EXPIRE', holds, keep)
  return true
end

-- What may be granted of one limit (0 = none), given what is spent and what others hold.
local function room(limit, spent, others)
  if limit == 0 then return math.huge end
  return limit - spent - others
end

-- A lease that covers what is outstanding and leaves `wanted` free, or a fair share of the room.
local function grant(room_left, outstanding, wanted, holders)
  if room_left == math.huge then return outstanding + wanted end
  local free = room_left - outstanding
  local share = math.floor(free / holders)
  return math.max(math.min(outstanding + math.min(wanted, math.max(share, 0)), room_left), 0)
end

if operation == 'sync' then
  local holder, day, seconds = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local total, daily = tonumber(ARGV[6]), tonumber(ARGV[7])
  local total_impressions, daily_impressions = tonumber(ARGV[8]), tonumber(ARGV[9])
  local outstanding, bids = tonumber(ARGV[10]), tonumber(ARGV[11])
  local wanted, wanted_bids = tonumber(ARGV[12]), tonumber(ARGV[13])
  local mine, holders = day .. ':' .. holder, 1
  local micros, micros_today, count, count_today = 0, 0, 0, 0
  local rows = redis.call('HGETALL', leases)
  for i = 1, #rows, 2 do
    local leased, impressions, till = rows[i + 1]:match('(%-?%d+) (%-?%d+) (%d+)')
    if tonumber(till) <= now then
      redis.call('HDEL', leases, rows[i])
    elseif rows[i] ~= mine then
      leased, impressions = math.max(tonumber(leased), 0), math.max(tonumber(impressions), 0)
      micros, count = micros + leased, count + impressions
      if rows[i]:sub(1, #day) == day then
        micros_today, count_today = micros_today + leased, count_today + impressions
        holders = holders + 1
      end
    end
  end
  local spent, spent_today = number(money, 'spent'), number(money, 'spent:' .. day)
  local shown, shown_today = number(money, 'impressions'), number(money, 'impressions:' .. day)
  local lease = grant(
    math.min(room(total, spent, micros), room(daily, spent_today, micros_today)),
    outstanding, wanted, holders)
  local lease_bids = grant(
    math.min(room(total_impressions, shown, count), room(daily_impressions, shown_today, count_today)),
    bids, wanted_bids, holders)
  redis.call('HSET', leases, mine, string.format('%.0f %.0f %.0f', lease, lease_bids, now + seconds))
  local answer = {lease, lease_bids, spent, spent_today, shown, shown_today}
  for i = 14, #ARGV do
    local bucket = ARGV[i]
    local row = redis.call('HMGET', holds, bucket .. ':resolved', bucket .. ':bids', bucket .. ':billed')
    answer[#answer + 1] = tonumber(bucket)
    for j = 1, 3 do
      answer[#answer + 1] = tonumber(row[j] or 0)
    end
  end
  return answer
end

if operation == 'bill' then
  local bid, day, holder, bucket = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  local held, cost, keep, counters = ARGV[7], tonumber(ARGV[8]), ARGV[9], ARGV[10]
  redis.call('ZREM', unbilled, bid)
  redis.call('HDEL', events, bid)
  if not count_once('b' .. bid, keep) then return 'duplicate' end
  redis.call('HINCRBY', money, 'spent', cost)
  redis.call('HINCRBY', money, 'spent:' .. day, cost)
  redis.call('HINCRBY', money, 'impressions', 1)
  redis.call('HINCRBY', money, 'impressions:' .. day, 1)
  local mine = day .. ':' .. holder
  local row = redis.call('HGET', leases, mine)
  if row then
    local leased, impressions, till = row:match('(%-?%d+) (%-?%d+) (%d+)')
    redis.call('HSET', leases, mine, string.format(
      '%.0f %.0f %s', tonumber(leased) - cost, tonumber(impressions) - 1, till))
  end
  resolve(bid, holder, bucket, held, keep)
  redis.call('HINCRBY', holds, bucket .. ':billed', cost)
  return 'new'
end

if operation == 'resolve' then
  return resolve(ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]) and 'new' or 'duplicate'
end

if operation == 'once' then
  local kind = ARGV[4]
  if not count_once(kind .. ARGV[3], ARGV[5]) then return 'duplicate' end
  redis.call('HINCRBY', money, kind, 1)
  return 'new'
end

if operation == 'await' then
  local bid, due, event, keep = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  if redis.call('SISMEMBER', seen, 'b' .. bid) == 1 then return 'duplicate' end
  if redis.call('ZADD', unbilled, 'NX', due, bid) == 0 then return 'duplicate' end
  redis.call('HSET', events, bid, event)
  redis.call('EXPIRE', unbilled, keep)
  redis.call('EXPIRE', events, keep)
  return 'new'
end

if operation == 'due' then
  local bids = redis.call('ZRANGEBYSCORE', unbilled, '-inf', now, 'LIMIT', 0, ARGV[3])
  if #bids == 0 then return {} end
  return redis.call('HMGET', events, unpack(bids))
end

return redis.error_reply('budget.lua: unknown operation ' .. operation)
