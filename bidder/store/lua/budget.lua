-- The money of one campaign: the only writer of it. All keys share the slot {campaign}.
--
-- KEYS  1 money (hash: spent, spent:DAY, impressions, impressions:DAY, owed, owed:DAY, showing,
--         showing:DAY, clicks, conversions, pace); owed is what impressions seen but not yet billed
--         will cost, showing how many they are
--       2 leases (hash: DAY:HOLDER -> "micros impressions until"), what may be spent besides
--       3 holds of one holder and day (hash: BUCKET:r resolved micros, :n resolved bids, :d micros
--         of the resolved that were shown)
--       4 done (set of the bids of one bucket whose hold is resolved)
--       5 seen (set of what was counted, of one day)
--       6 unbilled (sorted set of bid ids by when their billing is due)
--       7 unbilled events (hash: bid id -> the event to log then)
--       8 sale (one conversion, whatever bid it is told of)
-- ARGV  operation, now (seconds), then by operation:
--   sync     holder, day, lease until, total, daily, total impressions, daily impressions (0 = no
--            limit), kept micros, kept bids, wanted micros, wanted bids, the dearest impression,
--            pace (empty = none), micros and bids outstanding in other buckets, how many buckets
--            follow, for each its name, held micros, held bids, weight in millionths; then the names
--            of buckets to forget
--            -> free micros and bids, spent and owed in all, of the day, impressions in all, of the
--               day, pace (empty = none), then per bucket: resolved micros, resolved bids, shown micros
--   bill     bid id, day, holder, bucket, held micros, hold until, cost micros, keep, counters keep
--            -> "new" or "duplicate"
--   resolve  bid id, bucket, held micros, hold until -> "new" or "duplicate"
--   once     bid id, kind, keep -> "new" or "duplicate"
--   await    bid id, day, holder, bucket, held micros, hold until, due, event, keep
--            -> "new" or "duplicate" (billed, or awaited, already)
--   due      most, again -> the events whose billing did not come in time; after `again` seconds
--            they are handed out once more, unless billed by then
--   reserve  day, lease until, micros, impressions: a lease under the holder "reconciled" that, with
--            the others of the day, covers so much -> micros and impressions reserved

local money, leases, holds, done, seen, unbilled, events, sale = unpack(KEYS)
local operation, now = ARGV[1], tonumber(ARGV[2])
-- A done set must outlast every hold in its bucket; nothing is resolved after that.
local GRACE = 3600

local function number(field)
  return tonumber(redis.call('HGET', money, field) or 0)
end

local function count_once(key, member, keep)
  if redis.call('SADD', key, member) == 0 then return false end
  redis.call('EXPIRE', key, keep)
  return true
end

-- Free the hold of a bid, once, if it can still be held. `shown`: it will be paid.
local function resolve(bid, bucket, held, till, shown)
  if now >= till then return false end
  if redis.call('SADD', done, bid) == 0 then return false end
  redis.call('EXPIRE', done, till - now + GRACE)
  redis.call('HINCRBY', holds, bucket .. ':r', held)
  redis.call('HINCRBY', holds, bucket .. ':n', 1)
  if shown then redis.call('HINCRBY', holds, bucket .. ':d', held) end
  redis.call('EXPIRE', holds, till - now + GRACE)
  return true
end

local function add(name, day, by)
  redis.call('HINCRBY', money, name, by)
  redis.call('HINCRBY', money, name .. ':' .. day, by)
end

local function lease_of(row)
  local leased, impressions, till = row:match('(%d+) (%d+) (%d+)')
  return tonumber(leased), tonumber(impressions), tonumber(till)
end

local function set_lease(field, leased, impressions, till)
  redis.call('HSET', leases, field, string.format('%.0f %.0f %.0f', leased, impressions, till))
end

-- What is shown is no longer leased: its cost has moved to another counter.
local function use_lease(day, holder, cost)
  local field = day .. ':' .. holder
  local row = redis.call('HGET', leases, field)
  if not row then return end
  local leased, impressions, till = lease_of(row)
  set_lease(field, math.max(leased - cost, 0), math.max(impressions - 1, 0), till)
end

-- What is leased: in all, and of one day. Leases that ended are dropped; `mine` is left out.
local function leased_by_others(day, mine)
  local all = {micros = 0, bids = 0, micros_today = 0, bids_today = 0, holders = 1}
  local rows = redis.call('HGETALL', leases)
  for i = 1, #rows, 2 do
    local leased, impressions, till = lease_of(rows[i + 1])
    if till <= now then
      redis.call('HDEL', leases, rows[i])
    elseif rows[i] ~= mine then
      all.micros, all.bids = all.micros + leased, all.bids + impressions
      if rows[i]:sub(1, #day) == day then
        all.micros_today, all.bids_today = all.micros_today + leased, all.bids_today + impressions
        all.holders = all.holders + 1
      end
    end
  end
  return all
end

local function room(limit, used)
  if limit == 0 then return math.huge end
  return limit - used
end

-- What a holder may have free: what it wants; less where little is left, down to a fair share, but
-- then at least one impression to whoever comes first; never less than it keeps, while there is so much.
local function granted(left, kept, wanted, least, holders)
  local share = math.max(math.floor(left / holders), math.min(least, left))
  return math.max(math.min(math.max(kept, math.min(wanted, share)), left), 0)
end

if operation == 'sync' then
  local holder, day, till = ARGV[3], ARGV[4], tonumber(ARGV[5])
  local kept, kept_bids = tonumber(ARGV[10]), tonumber(ARGV[11])
  local wanted, wanted_bids, least = tonumber(ARGV[12]), tonumber(ARGV[13]), tonumber(ARGV[14])
  local outstanding, bids, count = tonumber(ARGV[16]), tonumber(ARGV[17]), tonumber(ARGV[18])
  local first, answer = 19, {0, 0, 0, 0, 0, 0, ''}
  for i = 1, count do
    local bucket, held = ARGV[first], tonumber(ARGV[first + 1])
    local held_bids, weight = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 3]) / 1e6
    local row = redis.call('HMGET', holds, bucket .. ':r', bucket .. ':n', bucket .. ':d')
    for j = 1, 3 do
      row[j] = tonumber(row[j] or 0)
      answer[#answer + 1] = row[j]
    end
    outstanding = outstanding + math.max(held - row[1], 0) * weight
    bids = bids + math.max(held_bids - row[2], 0) * weight
    first = first + 4
  end
  outstanding, bids = math.ceil(outstanding), math.ceil(bids)
  for i = first, #ARGV do
    redis.call('HDEL', holds, ARGV[i] .. ':r', ARGV[i] .. ':n', ARGV[i] .. ':d')
  end
  local mine = day .. ':' .. holder
  local others = leased_by_others(day, mine)
  local spent, spent_today = number('spent') + number('owed'), number('spent:' .. day) + number('owed:' .. day)
  local shown = number('impressions') + number('showing')
  local shown_today = number('impressions:' .. day) + number('showing:' .. day)
  local left = math.min(
    room(tonumber(ARGV[6]), spent + others.micros),
    room(tonumber(ARGV[7]), spent_today + others.micros_today)) - outstanding
  local left_bids = math.min(
    room(tonumber(ARGV[8]), shown + others.bids),
    room(tonumber(ARGV[9]), shown_today + others.bids_today)) - bids
  local free = granted(left, kept, wanted, least, others.holders)
  local free_bids = granted(left_bids, kept_bids, wanted_bids, 1, others.holders)
  if outstanding + bids + free + free_bids == 0 then
    redis.call('HDEL', leases, mine)
  else
    set_lease(mine, outstanding + free, bids + free_bids, till)
  end
  answer[7] = redis.call('HGET', money, 'pace') or ''
  if ARGV[15] ~= '' then redis.call('HSET', money, 'pace', ARGV[15]) end
  answer[1], answer[2], answer[3], answer[4] = free, free_bids, spent, spent_today
  answer[5], answer[6] = shown, shown_today
  return answer
end

if operation == 'bill' then
  local bid, day, holder, bucket, held = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
  local till, cost, keep = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
  local awaited = redis.call('ZREM', unbilled, bid) == 1
  if awaited then
    redis.call('HDEL', events, bid)
    add('owed', day, -held)
    add('showing', day, -1)
  end
  if not count_once(seen, 'b' .. bid, keep) then return 'duplicate' end
  add('spent', day, cost)
  add('impressions', day, 1)
  redis.call('EXPIRE', money, ARGV[11])
  if not awaited then
    use_lease(day, holder, cost)
    resolve(bid, bucket, held, till, true)
  end
  return 'new'
end

if operation == 'resolve' then
  return resolve(ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), false) and 'new' or 'duplicate'
end

if operation == 'once' then
  local bid, kind, keep = ARGV[3], ARGV[4], ARGV[5]
  if kind == 'conversions' then
    if not redis.call('SET', sale, 1, 'NX', 'EX', keep) then return 'duplicate' end
  elseif not count_once(seen, kind .. bid, keep) then
    return 'duplicate'
  end
  redis.call('HINCRBY', money, kind, 1)
  return 'new'
end

if operation == 'await' then
  local bid, day, holder, bucket, held = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
  local till, due, event, keep = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]
  if redis.call('SISMEMBER', seen, 'b' .. bid) == 1 then return 'duplicate' end
  if redis.call('ZADD', unbilled, 'NX', due, bid) == 0 then return 'duplicate' end
  redis.call('HSET', events, bid, event)
  redis.call('EXPIRE', unbilled, keep)
  redis.call('EXPIRE', events, keep)
  add('owed', day, held)
  add('showing', day, 1)
  use_lease(day, holder, held)
  resolve(bid, bucket, held, till, true)
  return 'new'
end

if operation == 'due' then
  local bids = redis.call('ZRANGEBYSCORE', unbilled, '-inf', now, 'LIMIT', 0, ARGV[3])
  if #bids == 0 then return {} end
  for _, bid in ipairs(bids) do
    redis.call('ZADD', unbilled, now + ARGV[4], bid)
  end
  return redis.call('HMGET', events, unpack(bids))
end

if operation == 'reserve' then
  local day, mine = ARGV[3], ARGV[3] .. ':reconciled'
  local others = leased_by_others(day, mine)
  local missing = math.max(tonumber(ARGV[5]) - others.micros_today, 0)
  local missing_bids = math.max(tonumber(ARGV[6]) - others.bids_today, 0)
  if missing + missing_bids > 0 then
    set_lease(mine, missing, missing_bids, tonumber(ARGV[4]))
  end
  return {missing, missing_bids}
end

return redis.error_reply('budget.lua: unknown operation ' .. operation)
