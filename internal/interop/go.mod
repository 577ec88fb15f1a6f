module github.com/signalpost/webhook/internal/interop

go 1.26.0

require (
	github.com/signalpost/webhook v0.0.0
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1
)

replace github.com/signalpost/webhook => ../..
