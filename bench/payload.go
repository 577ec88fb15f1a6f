package main

import (
	"fmt"
	"strings"
	"time"
)

// Where makePayload puts the time and the number, in bytes, so that the receiver need not parse JSON.
const (
	payloadSize = 1024
	timeAt      = len(`{"t":`)
	timeLen     = 19 // unix nanoseconds
	numberAt    = timeAt + timeLen + len(`,"n":"`)
	numberLen   = 8
)

var filler = strings.Repeat("the quick brown fox jumps over the lazy dog ", 25)

// makePayload is 1 KiB of JSON that tells when it was made and its number.
func makePayload(number int) []byte {
	head := fmt.Sprintf(`{"t":%019d,"n":"%08d","text":"`, time.Now().UnixNano(), number)
	b := make([]byte, 0, payloadSize)
	b = append(b, head...)
	b = append(b, filler[:payloadSize-len(head)-len(`"}`)]...)
	return append(b, `"}`...)
}
