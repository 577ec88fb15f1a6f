module github.com/signalpost/webhook/internal/ssrforacle

go 1.26.0

require (
	code.dny.dev/ssrf v0.3.0
	github.com/signalpost/webhook v0.0.0
)

replace github.com/signalpost/webhook => ../..
