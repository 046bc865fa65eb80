-- The ledger of one person: the only writer of it, but for the first of somebody new to the CRM
-- (bidder/capping/first.py). Layout and folding: bidder/capping/ledger.py.
--
-- KEYS[1]  the ledger
-- KEYS[2]  alias: who this person was merged into. Where there is one, nothing is done
--          and the answer is a list with their id
-- ARGV     operation, now (seconds), ttl (seconds), most records, most totals, then by operation:
--   claim    version, records...  -> 1: held; 0: full; the ledger itself: its version is another
--   record   record, was claimed  -> "new", "late" (its reservation had ended) or "duplicate"
--   release  bid key              -> "new" (the reservation is gone) or "absent"
--   absorb   mark, another ledger, records... -> how many records are new. The mark (8 bytes, may be
--            empty) is left behind by the other ledger, which comes once only

local HEADER, TOTAL, RECORD = 16, 16, 36
local IMPRESSION, RESERVATION, MERGED = 1, 4, 5
local KEEP, LATE = 31 * 86400, 3600
local operation, now, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local most, most_totals = tonumber(ARGV[4]), tonumber(ARGV[5])

local moved = redis.call('GET', KEYS[2])
if moved then return {moved} end

local raw = redis.call('GET', KEYS[1]) or ''
local version, folded_until, unlisted, totals, body = 0, 0, 0, '', ''
if raw ~= '' then
  local layout, count
  layout, count, version, folded_until, unlisted = struct.unpack('<BxHIII', raw)
  if layout ~= 1 then return redis.error_reply('ERR ledger layout ' .. layout .. ' is unknown') end
  totals = raw:sub(HEADER + 1, HEADER + count * TOTAL)
  body = raw:sub(HEADER + count * TOTAL + 1)
end

-- Position in `body` of the record with this bid key and kind, or nil. The key ends a record.
local function find(key, kind)
  local at = body:find(key, 1, true)
  while at do
    local start = at - (RECORD - 8)
    if start >= 1 and (start - 1) % RECORD == 0 and body:byte(start + 4) % 16 == kind then
      return start
    end
    at = body:find(key, at + 1, true)
  end
  return nil
end

local function remove(start)
  body = body:sub(1, start - 1) .. body:sub(start + RECORD)
end

-- Drop reservations that have ended.
local function sweep()
  local mark, from = string.char(RESERVATION), 5
  local at = body:find(mark, from, true) -- some are bytes of other fields
  while at do
    from = at + 1
    if (at - 5) % RECORD == 0 then
      local time, hold = struct.unpack('<IxxH', body, at - 4)
      if time + hold <= now then
        remove(at - 4)
        from = at
      end
    end
    at = body:find(mark, from, true)
  end
end

-- The totals by their first 8 bytes, each {count, last}, and how many there are.
local function read_totals()
  local found, many = {}, 0
  for start = 1, #totals, TOTAL do
    local count, last = struct.unpack('<II', totals, start + 8)
    found[totals:sub(start, start + 7)] = {count, last}
    many = many + 1
  end
  return found, many
end

-- Forget the smallest totals, the oldest first among equals, until there are few enough.
local function write_totals(found, many)
  local rows = {}
  for key, total in pairs(found) do rows[#rows + 1] = {key, total[1], total[2]} end
  table.sort(rows, function(a, b)
    if a[2] ~= b[2] then return a[2] > b[2] end
    if a[3] ~= b[3] then return a[3] > b[3] end
    return a[1] < b[1]
  end)
  for place = most_totals + 1, many do
    unlisted = math.max(unlisted, rows[place][2])
    rows[place] = nil
  end
  for place, row in ipairs(rows) do
    rows[place] = row[1] .. struct.pack('<II', row[2], row[3])
  end
  totals = table.concat(rows)
end

-- Fold these records into the totals: one count for each id, and one for all advertisers (id 0).
local function count(records)
  local found, many = read_totals()
  local before = unlisted
  for _, record in ipairs(records) do
    local time, what = struct.unpack('<IB', record)
    folded_until = math.max(folded_until, time)
    local ids = {0, struct.unpack('<IIII', record, 9)}
    for place = 1, 5 do
      local key = struct.pack('<II', ids[place], what)
      local total = found[key]
      if place > 1 and ids[place] == 0 then
        -- a contact of the CRM, which has no line item
      elseif total then
        total[1], total[2] = total[1] + 1, math.max(total[2], time)
      else
        -- It may have been here before and forgotten: at most `before` times, until `folded_until`.
        found[key] = {before + 1, before > 0 and folded_until or time}
        many = many + 1
      end
    end
  end
  write_totals(found, many)
end

-- Make room: what is older than any window goes, then the oldest of what is too many: impressions,
-- then clicks and conversions. Nothing younger than `youngest` and no reservation is touched.
local function fold(youngest)
  local many = #body / RECORD - most
  -- Records come roughly in order of time, so the first says whether any is old enough.
  if #body == 0 or many <= 0 and struct.unpack('<I', body) >= now - KEEP then return end
  local rows = {}
  for start = 1, #body, RECORD do
    local time, what = struct.unpack('<IB', body, start)
    rows[#rows + 1] = {time, what % 16, start}
  end
  table.sort(rows, function(a, b)
    if (a[2] == IMPRESSION) ~= (b[2] == IMPRESSION) then return a[2] == IMPRESSION end
    if a[1] ~= b[1] then return a[1] < b[1] end
    return a[3] < b[3]
  end)
  local gone, folded = {}, {}
  for pass = 1, 2 do -- first the old, whatever their kind; then, if that is not enough, the rest
    for _, row in ipairs(rows) do
      local time, kind, start = row[1], row[2], row[3]
      local out = time < now - KEEP
      if pass == 2 then out = many > 0 and time <= youngest end
      if out and kind ~= RESERVATION and not gone[start] then
        gone[start] = true
        many = many - 1
        if kind == IMPRESSION then folded[#folded + 1] = body:sub(start, start + RECORD - 1) end
      end
    end
  end
  local kept = {}
  for start = 1, #body, RECORD do
    if not gone[start] then kept[#kept + 1] = body:sub(start, start + RECORD - 1) end
  end
  body = table.concat(kept)
  if #folded > 0 then count(folded) end
end

local function save()
  if version == 0 then
    version = now -- never a version that an expired ledger of this person had
  else
    version = (version + 1) % 4294967296
  end
  local header = struct.pack('<BBHIII', 1, 0, #totals / TOTAL, version, folded_until, unlisted)
  redis.call('SET', KEYS[1], header .. totals .. body, 'EX', ttl)
end

if operation == 'claim' then
  if tonumber(ARGV[6]) ~= version then return raw end
  sweep()
  body = body .. table.concat(ARGV, '', 7)
  fold(now - LATE) -- of a younger one, the same notice may still come again
  if #body / RECORD > most then return 0 end
  save()
  return 1
end

if operation == 'release' then
  local start = find(ARGV[6], RESERVATION)
  if not start then return 'absent' end
  remove(start)
  save()
  return 'new'
end

-- Add the totals of another ledger to ours. What it forgot, we may have to assume of any id.
local function add_totals(other)
  local _, n, _, other_folded, other_unlisted = struct.unpack('<BxHIII', other)
  local found, many = read_totals()
  local theirs = {}
  for start = HEADER + 1, HEADER + n * TOTAL, TOTAL do
    local key, total, last = other:sub(start, start + 7), struct.unpack('<II', other, start + 8)
    theirs[key] = true
    local ours = found[key]
    if ours then
      ours[1], ours[2] = ours[1] + total, math.max(ours[2], last)
    else
      found[key] = {total + unlisted, math.max(last, unlisted > 0 and folded_until or 0)}
      many = many + 1
    end
  end
  for key, ours in pairs(found) do
    if other_unlisted > 0 and not theirs[key] then
      ours[1], ours[2] = ours[1] + other_unlisted, math.max(ours[2], other_folded)
    end
  end
  folded_until = math.max(folded_until, other_folded)
  unlisted = unlisted + other_unlisted
  write_totals(found, many)
end

if operation == 'absorb' then
  local mark, other, new = ARGV[6], ARGV[7], 0
  local records = {}
  if other ~= '' and find(mark, MERGED) then
    other = '' -- it came before, and as its person has an alias it cannot have changed since
  end
  if other ~= '' then
    local _, n = struct.unpack('<BxH', other)
    for start = HEADER + n * TOTAL + 1, #other, RECORD do
      records[#records + 1] = other:sub(start, start + RECORD - 1)
    end
    add_totals(other)
    body = body .. struct.pack('<IBBHIIIII', now, MERGED, 0, 0, 0, 0, 0, 0, 0) .. mark
  end
  for place = 8, #ARGV do records[#records + 1] = ARGV[place] end
  for _, record in ipairs(records) do
    local key, kind = record:sub(RECORD - 7), record:byte(5) % 16
    if not find(key, kind) and not (kind == RESERVATION and find(key, IMPRESSION)) then
      if kind == IMPRESSION then
        local held = find(key, RESERVATION)
        if held then remove(held) end
      end
      body, new = body .. record, new + 1
    end
  end
  if new == 0 and other == '' then return 0 end
  sweep()
  fold(4294967295)
  save()
  return new
end

local record = ARGV[6]
local key, kind = record:sub(RECORD - 7), record:byte(5) % 16
if find(key, kind) then return 'duplicate' end
sweep()
local outcome = 'new'
if kind == IMPRESSION then
  local start = find(key, RESERVATION)
  if start then
    remove(start)
  elseif ARGV[7] == '1' then
    outcome = 'late' -- it was claimed once, so its reservation has ended
  end
end
body = body .. record
fold(4294967295)
save()
return outcome
