package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// The headers of the default scheme, in the spelling of net/http, which puts them on the wire like that.
const (
	headerSignature  = "Signature"
	headerTimestamp  = "Timestamp"
	headerAPIVersion = "Api-Version"
)

// gettAPIVersion is what the default scheme sends in API-Version, and the version it was written for.
const gettAPIVersion = "2026-01-30"

// maxAPIVersionBytes bounds what is handed to callers, who may log it.
const maxAPIVersionBytes = 64

// gettScheme is the default scheme: the hex HMAC-SHA256 of the raw body alone. The Timestamp is not signed, so it stops no
// replay by somebody who changes it; the receiver's memory of keys does.
type gettScheme struct{}

func (gettScheme) Name() string { return "gett" }

func (gettScheme) Sign(m *Message, secrets []Secret, now time.Time) error {
	if now.Unix() < 0 || now.Unix() > maxTimestamp {
		return &FieldError{Op: "sign", Field: "now", Reason: "is not a time that unix seconds can say"}
	}
	mac := secrets[0].HMAC(m.Body)
	// One string and one slice for all three values: signing is on the path of every attempt.
	var text [macHexLen + 20]byte
	hex.Encode(text[:], mac[:])
	both := string(strconv.AppendInt(text[:macHexLen], now.Unix(), 10))
	values := [...]string{both[:macHexLen], both[macHexLen:], gettAPIVersion}
	slots := values[:]
	m.Header[headerSignature] = slots[0:1:1]
	m.Header[headerTimestamp] = slots[1:2:2]
	m.Header[headerAPIVersion] = slots[2:3:3]
	return nil
}

func (gettScheme) Verify(m *Message, secrets []Secret) (Verification, error) {
	signature, err := oneValue(headerSignature, headerValues(m.Header, headerSignature))
	if err != nil {
		return Verification{}, err
	}
	timestamp, err := oneValue(headerTimestamp, headerValues(m.Header, headerTimestamp))
	if err != nil {
		return Verification{}, err
	}
	version, err := apiVersion(m.Header)
	if err != nil {
		return Verification{}, err
	}
	mac, err := DecodeHex(signature)
	if err != nil {
		return Verification{}, err
	}
	signed, err := ParseTimestamp(timestamp)
	if err != nil {
		return Verification{}, err
	}
	matched, err := MatchHMAC(secrets, [][sha256.Size]byte{mac}, m.Body)
	if err != nil {
		return Verification{}, err
	}
	return Verification{
		Secret:         matched,
		Timestamp:      signed,
		APIVersion:     version,
		UnknownVersion: version != gettAPIVersion,
	}, nil
}

// apiVersion reads the version, which may be absent: it decides nothing here.
func apiVersion(h http.Header) (string, error) {
	values := headerValues(h, headerAPIVersion)
	if len(values) == 0 {
		return "", nil
	}
	version, err := oneValue(headerAPIVersion, values)
	if err == nil && len(version) > maxAPIVersionBytes {
		err = verifyErrorf(ErrHeaderTooLong, "header API-Version has %d bytes, want at most %d", len(version), maxAPIVersionBytes)
	}
	if err != nil {
		return "", err
	}
	return version, nil
}

// describeGett reads type and order. Gett's events have no ID and no time of their own, and Timestamp is neither signed nor theirs.
func describeGett(m *Message) Description {
	eventType, order := gettOrder(m.Body)
	if eventType == "" {
		eventType, _ = jsonText(m.Body, "type")
		return Description{Type: eventType}
	}
	return Description{Type: eventType, OrderingKey: JoinKey(order)}
}
