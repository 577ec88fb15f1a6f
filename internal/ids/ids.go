// Package ids makes identifiers that sort by the time they were made and cannot be guessed.
package ids

import (
	"crypto/rand"
	"time"
)

// alphabet is Crockford's base 32 in lower case: no i, l, o, u, and in ascending ASCII order, so that texts sort as numbers do.
const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// New returns prefix and 26 characters: 48 bits of Unix milliseconds, then 80 random bits. IDs made in the same
// millisecond sort at random. Safe for concurrent use.
func New(prefix string) string {
	raw := timed(time.Now())
	rand.Read(raw[6:]) // never fails: it ends the program instead
	return text(prefix, raw)
}

// At is the smallest that New returns at t.
func At(prefix string, t time.Time) string { return text(prefix, timed(t)) }

// timed has the time of t and zeros.
func timed(t time.Time) (raw [16]byte) {
	ms := uint64(max(t.UnixMilli(), 0))
	for i := range 6 {
		raw[i] = byte(ms >> (40 - 8*i))
	}
	return raw
}

func text(prefix string, raw [16]byte) string {
	text := make([]byte, len(prefix)+26)
	copy(text, prefix)
	encode(text[len(prefix):], raw)
	return string(text)
}

// encode writes the 128 bits of raw as 26 digits of 5 bits; the first digit holds only 3 of them.
func encode(dst []byte, raw [16]byte) {
	var acc uint64
	bits := 2 // 130 bits of digits for 128 of data: two leading zeros
	n := 0
	for _, b := range raw {
		acc = acc<<8 | uint64(b)
		bits += 8
		for bits >= 5 {
			bits -= 5
			dst[n] = alphabet[acc>>bits&31]
			n++
		}
	}
}
