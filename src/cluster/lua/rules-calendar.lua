-- Months and years of the calendar. Needs rules.lua before it.

local DAY = 86400000000

-- Start and length of the calendar month or year that contains `now`.
-- Days to civil date: years begin in March, eras have 400 of them, and every step below is exact in integers.
calendar = function(now, yearly)
  local days = math.floor(now / DAY)
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  local function day_of(y, m)
    if m <= 2 then y = y - 1 end
    local e = math.floor(y / 400)
    local ye = y - e * 400
    local dy = math.floor((153 * (m > 2 and m - 3 or m + 9) + 2) / 5)
    return e * 146097 + ye * 365 + math.floor(ye / 4) - math.floor(ye / 100) + dy - 719468
  end
  local from, to
  if yearly then
    from, to = day_of(year, 1), day_of(year + 1, 1)
  elseif month == 12 then
    from, to = day_of(year, 12), day_of(year + 1, 1)
  else
    from, to = day_of(year, month), day_of(year, month + 1)
  end
  return from * DAY, (to - from) * DAY
end
