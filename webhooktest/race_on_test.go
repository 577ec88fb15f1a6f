//go:build race

package webhooktest_test

const raceDetector = true // which makes all slower
