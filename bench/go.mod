module github.com/signalpost/webhook/bench

go 1.26.0

require github.com/signalpost/webhook v0.0.0

replace github.com/signalpost/webhook => ..
