package webhook

// Secret is a signing key as it was issued. It never shows itself: fmt, slog and JSON print "[redacted]".
type Secret struct {
	text string
}

// Reveal returns the secret itself, for storing it. Never log it.
func (s Secret) Reveal() string { return s.text }
