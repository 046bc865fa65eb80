-- The ledger of one person: the only writer of it. Layout: bidder/capping/ledger.py.
--
-- KEYS[1]  the ledger
-- ARGV     operation, now (seconds), ttl (seconds), most records, then by operation:
--   claim    version, records...  -> 1: held; 0: full; the ledger itself: its version is another
--   record   record, was claimed  -> "new", "late" (its reservation had ended) or "duplicate"
--   release  bid key              -> "new" (the reservation is gone) or "absent"

local HEADER, TOTAL, RECORD, MOST_TOTALS = 16, 12, 36, 256
local IMPRESSION, RESERVATION = 1, 4
local KEEP, LATE = 31 * 86400, 3600
local operation, now, ttl, most = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

local raw = redis.call('GET', KEYS[1]) or ''
local flags, version, folded_until, totals, body = 0, 0, 0, '', ''
if raw ~= '' then
  local _, count
  _, flags, count, version, folded_until = struct.unpack('<BBHII', raw)
  totals = raw:sub(HEADER + 1, HEADER + count * TOTAL)
  body = raw:sub(HEADER + count * TOTAL + 1)
end

-- Position in `body` of the record with this bid key and kind, or nil. The key ends a record.
local function find(key, kind)
  local from = 1
  while true do
    local at = body:find(key, from, true)
    if not at then return nil end
    local start = at - (RECORD - 8)
    if start >= 1 and (start - 1) % RECORD == 0 and body:byte(start + 4) == kind then
      return start
    end
    from = at + 1
  end
end

local function remove(start)
  body = body:sub(1, start - 1) .. body:sub(start + RECORD)
end

-- Drop reservations that have ended.
local function sweep()
  local start = 1
  while start <= #body do
    if body:byte(start + 4) == RESERVATION then
      local time, _, _, hold = struct.unpack('<IBBH', body, start)
      if time + hold <= now then
        remove(start)
      else
        start = start + RECORD
      end
    else
      start = start + RECORD
    end
  end
end

-- Count one folded record for each id in it, and for all advertisers together (id 0).
local function count_folded(counts, record)
  local _, kind, where, _, advertiser, campaign, line_item, creative =
    struct.unpack('<IBBHIIII', record)
  for _, id in ipairs({0, advertiser, campaign, line_item, creative}) do
    local key = struct.pack('<IBBH', id, kind, where % 16, 0)
    if counts[key] then
      counts[key] = counts[key] + 1
    elseif counts.n < MOST_TOTALS then
      counts[key] = 1
      counts.n = counts.n + 1
    else
      flags = 1 -- overflowed: lifetime caps of ids that are not here count as reached
    end
  end
end

-- Fold what is older than any window, and the oldest of what is too many, into the totals.
-- Nothing younger than `youngest` is folded. Live reservations never are.
local function fold(youngest)
  if #body == 0 then return end
  local many = #body / RECORD - most
  if many <= 0 and struct.unpack('<I', body) >= now - KEEP then return end
  local records = {}
  for start = 1, #body, RECORD do
    local record = body:sub(start, start + RECORD - 1)
    records[#records + 1] = {struct.unpack('<I', record), record, record:byte(5)}
  end
  table.sort(records, function(a, b) return a[1] < b[1] end)
  local counts = {n = 0}
  for start = 1, #totals, TOTAL do
    counts[totals:sub(start, start + 7)] = struct.unpack('<I', totals, start + 8)
    counts.n = counts.n + 1
  end
  local kept = {}
  for _, row in ipairs(records) do
    local time, record, kind = row[1], row[2], row[3]
    if kind ~= RESERVATION and (time < now - KEEP or (many > 0 and time <= youngest)) then
      count_folded(counts, record)
      folded_until = math.max(folded_until, time)
      many = many - 1
    else
      kept[#kept + 1] = record
    end
  end
  counts.n = nil
  local packed = {}
  for key, count in pairs(counts) do
    packed[#packed + 1] = key .. struct.pack('<I', count)
  end
  totals, body = table.concat(packed), table.concat(kept)
end

local function save()
  if version == 0 then
    version = now -- never a version that an expired ledger of this person had
  else
    version = (version + 1) % 4294967296
  end
  local header = struct.pack('<BBHIII', 1, flags, #totals / TOTAL, version, folded_until, 0)
  redis.call('SET', KEYS[1], header .. totals .. body, 'EX', ttl)
end

if operation == 'claim' then
  if tonumber(ARGV[5]) ~= version then return raw end
  sweep()
  body = body .. table.concat(ARGV, '', 6)
  fold(now - LATE)
  if #body / RECORD > most then return 0 end
  save()
  return 1
end

if operation == 'release' then
  local start = find(ARGV[5], RESERVATION)
  if not start then return 'absent' end
  remove(start)
  save()
  return 'new'
end

local record = ARGV[5]
local key, kind = record:sub(RECORD - 7), record:byte(5)
if find(key, kind) then return 'duplicate' end
local outcome = 'new'
if kind == IMPRESSION then
  local start = find(key, RESERVATION)
  if start then
    local time, _, _, hold = struct.unpack('<IBBH', body, start)
    if time + hold <= struct.unpack('<I', record) then outcome = 'late' end
    remove(start)
  elseif ARGV[6] == '1' then
    outcome = 'late' -- it was claimed once, so its reservation has ended
  end
end
sweep()
body = body .. record
fold(now)
save()
return outcome
