//go:build !race

package webhooktest_test

const raceDetector = false
