"""The two scripts that Redis runs for quotas.

What lives here: cluster/core/quota.py's rule once more, in Lua, so that one evaluation is atomic for all gateways and
only the server's clock counts. Both must say the same; tests/integration/test_quotas.py compares them. What must not:
when they are called (quotas.py).
"""

from __future__ import annotations

FIELDS_PER_ANSWER = 4

EXCHANGE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local burst = tonumber(ARGV[1])

local function wait(backlog, cost)
  if cost == 0 then return 0 end
  return math.max(0, backlog + math.min(cost, burst) - burst)
end

local meters, changed, answers = {}, {}, {}
for index, key in ipairs(KEYS) do
  local at = index * 3 - 1
  local requests_cost, tokens_cost = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local meter = meters[key]
  if not meter then
    local requests, tokens = string.match(redis.call('GET', key) or '', '^(%d+):(%d+)$')
    meter = {math.max(now, tonumber(requests) or 0), math.max(now, tonumber(tokens) or 0)}
    meters[key] = meter
  end
  local requests_wait, tokens_wait = 0, 0
  if ARGV[at] == 'take' then
    requests_wait = wait(meter[1] - now, requests_cost)
    tokens_wait = wait(meter[2] - now, tokens_cost)
  end
  if requests_wait == 0 and tokens_wait == 0 then
    meter[1] = math.max(now, meter[1] + requests_cost)
    meter[2] = math.max(now, meter[2] + tokens_cost)
    changed[key] = meter
  end
  local last = #answers
  answers[last + 1], answers[last + 2] = requests_wait, tokens_wait
  answers[last + 3], answers[last + 4] = meter[1] - now, meter[2] - now
end

for key, meter in pairs(changed) do
  local left_ms = math.ceil((math.max(meter[1], meter[2]) - now) / 1000)
  if left_ms > 0 then
    redis.call('SET', key, string.format('%.0f:%.0f', meter[1], meter[2]), 'PX', string.format('%.0f', left_ms))
  else
    redis.call('DEL', key)
  end
end
return answers
"""
"""KEYS: one a step, in order; each is read and written once, however often it comes. ARGV: the burst, then for each
step `take` or `settle`, the requests' cost and the tokens' cost, all in microseconds. Returns for each step both waits
(0 and 0: done) and both backlogs afterwards. A key that expired is a limit without a backlog."""

GREET = """
local now_s = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now_s, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_s - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
"""KEYS: the set of gateways. ARGV: this gateway, and the seconds after which a silent one is gone. Returns how many
there are."""
