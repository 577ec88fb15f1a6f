module github.com/signalpost/webhook

go 1.26.0
