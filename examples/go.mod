module github.com/signalpost/webhook/examples

go 1.26.0

require (
	github.com/jackc/pgx/v5 v5.12.0
	github.com/signalpost/webhook v0.0.0
	modernc.org/sqlite v1.60.1
)

replace github.com/signalpost/webhook => ..
