package profile

import "github.com/signalpost/webhook"

// Gett is Gett's order webhooks for distribution partners, the default profile: see [webhook.DefaultProfile].
func Gett() webhook.Profile { return webhook.DefaultProfile() }
