package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
)

const (
	maxHeaderBytes = 4096 // of any header that a scheme reads
	macHexLen      = 2 * sha256.Size
	macBase64Len   = 43 // digits of 32 bytes, without the one padding character
)

// OneHeader returns the value of a header that must be there exactly once, not empty and at most 4 KiB. Its errors are
// [*VerifyError]s: a header that comes twice is refused even when both values agree, since whoever reads it after us may take
// the other. Names match in any case, also in a map that net/http did not make. For writers of a [Scheme].
func OneHeader(h http.Header, name string) (string, error) {
	return oneValue(name, headerValues(h, http.CanonicalHeaderKey(name)))
}

// oneValue is OneHeader for the values that were found under name.
func oneValue(name string, values []string) (string, error) {
	if len(values) == 0 {
		return "", verifyErrorf(ErrHeaderMissing, "header %s is missing", name)
	}
	value := values[0]
	for _, other := range values[1:] {
		if other != value {
			return "", verifyErrorf(ErrHeaderContradicts, "header %s comes %d times with different values", name, len(values))
		}
	}
	switch {
	case len(values) > 1:
		return "", verifyErrorf(ErrHeaderRepeated, "header %s comes %d times", name, len(values))
	case value == "":
		return "", verifyErrorf(ErrHeaderEmpty, "header %s is empty", name)
	case len(value) > maxHeaderBytes:
		return "", verifyErrorf(ErrHeaderTooLong, "header %s has %d bytes, want at most %d", name, len(value), maxHeaderBytes)
	}
	return value, nil
}

// headerValues finds a header under its canonical name, as in what net/http parsed, else under any other spelling.
func headerValues(h http.Header, canonical string) []string {
	if values, ok := h[canonical]; ok {
		return values
	}
	var values []string
	for other, v := range h {
		if strings.EqualFold(other, canonical) {
			values = append(values, v...)
		}
	}
	return values
}

// DecodeHex reads an HMAC-SHA256 in hex of either case. Its errors are [*VerifyError]s: [ErrSignatureTruncated] when it is short,
// [ErrHeaderTooLong], and [ErrHeaderMalformed] for anything but hex digits. For writers of a [Scheme].
func DecodeHex(text string) (mac [sha256.Size]byte, err error) {
	if len(text) == macHexLen {
		if _, err := hex.Decode(mac[:], []byte(text)); err == nil {
			return mac, nil
		}
		mac = [sha256.Size]byte{}
	}
	if len(text) <= maxHeaderBytes {
		for i := range len(text) {
			if !isHexDigit(text[i]) {
				return mac, verifyErrorf(ErrHeaderMalformed, "signature has a character at %d that is no hex digit", i)
			}
		}
	}
	if len(text) < macHexLen {
		return mac, verifyErrorf(ErrSignatureTruncated, "signature has %d hex digits, want %d", len(text), macHexLen)
	}
	return mac, verifyErrorf(ErrHeaderTooLong, "signature has %d hex digits, want %d", len(text), macHexLen)
}

func isHexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

var strictBase64 = base64.StdEncoding.Strict()

// DecodeBase64 reads an HMAC-SHA256 in standard base64, in its one canonical form. Its errors are [*VerifyError]s:
// [ErrSignatureNotCanonical] for the URL alphabet, missing or surplus padding and bits set that the last digit has not,
// [ErrSignatureTruncated], [ErrHeaderTooLong], and [ErrHeaderMalformed] for other characters. For writers of a [Scheme].
func DecodeBase64(text string) (mac [sha256.Size]byte, err error) {
	if len(text) > maxHeaderBytes {
		return mac, verifyErrorf(ErrHeaderTooLong, "signature has %d bytes, want %d", len(text), macBase64Len+1)
	}
	digits := strings.TrimRight(text, "=")
	urlAlphabet := false
	for i := range len(digits) {
		switch c := digits[i]; {
		case c == '-' || c == '_':
			urlAlphabet = true
		case !isBase64Digit(c):
			return mac, verifyErrorf(ErrHeaderMalformed, "signature has a character at %d that is no base64 digit", i)
		}
	}
	padding := len(text) - len(digits)
	switch {
	case len(digits) < macBase64Len:
		return mac, verifyErrorf(ErrSignatureTruncated, "signature has %d base64 digits, want %d", len(digits), macBase64Len)
	case len(digits) > macBase64Len:
		return mac, verifyErrorf(ErrHeaderTooLong, "signature has %d base64 digits, want %d", len(digits), macBase64Len)
	case urlAlphabet:
		return mac, verifyErrorf(ErrSignatureNotCanonical, "signature is in the URL alphabet of base64, want the standard one")
	case padding != 1:
		return mac, verifyErrorf(ErrSignatureNotCanonical, "signature has %d padding characters, want 1", padding)
	}
	var coded [macBase64Len + 1]byte
	copy(coded[:], text)
	var decoded [sha256.Size + 1]byte // the decoder wants room for whole groups
	if _, err := strictBase64.Decode(decoded[:], coded[:]); err != nil {
		return mac, verifyErrorf(ErrSignatureNotCanonical, "signature has bits set behind its last byte")
	}
	copy(mac[:], decoded[:])
	return mac, nil
}

func isBase64Digit(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '+' || c == '/'
}

// MatchHMAC finds the secret under which one of macs is the HMAC of the strings of prefix and then body (see [Secret.HMAC]), and
// returns its index. It compares in constant time. The error is a [*VerifyError] of [ErrSignatureMismatch].
// For writers of a [Scheme].
func MatchHMAC(secrets []Secret, macs [][sha256.Size]byte, body []byte, prefix ...string) (int, error) {
	for i, secret := range secrets {
		want := secret.HMAC(body, prefix...)
		for j := range macs {
			if hmac.Equal(macs[j][:], want[:]) {
				return i, nil
			}
		}
	}
	if len(secrets) == 1 {
		return 0, verifyErrorf(ErrSignatureMismatch, "signature does not match under the secret")
	}
	return 0, verifyErrorf(ErrSignatureMismatch, "signature matches under none of %d secrets", len(secrets))
}
