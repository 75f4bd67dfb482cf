-- wrk -s post.lua URL -- TOKEN_FILE BODY_FILE DIRECTIVES: the same chat request again and again, with the
-- tokens of the file in turn.
-- At the end one line: "requests N us N errors N" (other statuses than 200 and socket errors).

local requests, at = {}, 0

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

function init(args)
    local body = read(args[2])
    local headers = { ["Content-Type"] = "application/json", ["x-sandbox"] = args[3] }
    for token in read(args[1]):gmatch("%S+") do
        headers["Authorization"] = "Bearer " .. token
        requests[#requests + 1] = wrk.format("POST", "/v1/chat/completions", headers, body)
    end
end

function request()
    at = at % #requests + 1
    return requests[at]
end

function done(summary)
    local e = summary.errors
    io.write(string.format("requests %d us %d errors %d\n", summary.requests, summary.duration,
        e.connect + e.read + e.write + e.status + e.timeout))
end
