-- wrk -s post.lua URL -- TOKEN BODY_FILE DIRECTIVES: the same chat request again and again.
-- At the end one line: "requests N us N errors N" (other statuses than 200 and socket errors).

function init(args)
    local file = assert(io.open(args[2], "rb"))
    wrk.method = "POST"
    wrk.path = "/v1/chat/completions"
    wrk.body = file:read("*a")
    wrk.headers["Authorization"] = "Bearer " .. args[1]
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["x-sandbox"] = args[3]
    file:close()
end

function done(summary)
    local e = summary.errors
    io.write(string.format("requests %d us %d errors %d\n", summary.requests, summary.duration,
        e.connect + e.read + e.write + e.status + e.timeout))
end
