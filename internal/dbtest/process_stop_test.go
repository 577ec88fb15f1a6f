package dbtest

import "time"

// A child at this point goes on by itself, after pauseTime in AttemptDone.
const (
	pauses    = "pauses"
	pauseTime = 300 * time.Millisecond
)
