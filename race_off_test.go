//go:build !race

package webhook

// RaceDetector says that sync.Pool forgets at random, so that allocations cannot be counted.
const RaceDetector = false
