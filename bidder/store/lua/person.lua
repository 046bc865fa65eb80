-- One person's profile, records and identifiers, written together and only over what was read.
--
-- KEYS  profile, records, identifiers, alias, ledger
-- ARGV  digest of what was read (SHA-1 of the three, each followed by |), when they expire (seconds
--       since the epoch), the three new values (an empty one is deleted), 1 if the person objects:
--       then the ledger goes too
-- -> 1: written; 0: somebody wrote in between; a list with the id this person was merged into

local moved = redis.call('GET', KEYS[4])
if moved then return {moved} end
local read = {}
for place = 1, 3 do read[place] = redis.call('GET', KEYS[place]) or '' end
if redis.sha1hex(table.concat(read, '|') .. '|') ~= ARGV[1] then return 0 end
for place = 1, 3 do
  local value = ARGV[place + 2]
  if value == '' then
    redis.call('DEL', KEYS[place])
  else
    redis.call('SET', KEYS[place], value, 'EXAT', ARGV[2])
  end
end
if ARGV[6] == '1' then redis.call('DEL', KEYS[5]) end
return 1
