package profile

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
)

// The headers of Standard Webhooks, as net/http spells them.
const (
	headerWebhookID        = "Webhook-Id"
	headerWebhookTimestamp = "Webhook-Timestamp"
)

// StandardWebhooks is Standard Webhooks 1.0.0: webhook-id, webhook-timestamp and webhook-signature, which covers all three of ID,
// time and body. It is the format to choose where the choice is yours.
//
// What a secret begins with says how it signs:
//
//   - "whsec_", or nothing before the base64: symmetrically (v1, HMAC-SHA256), with what the base64 decodes to as the key;
//   - "whsk_": asymmetrically (v1a, ed25519), with the private key of 64 bytes (seed and public key) or 32 (seed), as
//     [GenerateStandardKey] makes it;
//   - "whpk_": the public key of 32 bytes, which verifies v1a and cannot sign. A verifier needs no other.
//
// Keep the prefix of a public key: without it the same text is a v1 secret, and whoever knows it can sign.
//
// Signing writes one signature per secret, v1 and v1a side by side when there are both, so that receivers can change over one by one.
// Verifying holds each signature against the secrets of its version, and skips versions for which there is no secret. The key of an event is
// its ID. A v1a signature takes some 30 µs to make and twice that to check; v1 takes a few.
func StandardWebhooks() webhook.Profile {
	return webhook.Profile{
		Name:   "standardwebhooks",
		Scheme: standard{},
		Schedule: webhook.Schedule{
			Kind: "list",
			List: []time.Duration{
				5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
				10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
			},
			Jitter: 0.1,
		},
		Timeout:      20 * time.Second, // the specification advises 15 to 30 s
		Success:      success2xx(),
		GoneDisables: true,
		Tolerance:    webhook.DefaultTolerance,
		Key:          webhook.KeyFromEventID(),
		Describe: func(m *webhook.Message) webhook.Description {
			d := describe(m, func(o *object.Object) webhook.Description { // webhook-timestamp is the attempt's, the body's the event's
				return webhook.Description{Type: o.Text("type"), Time: o.Time("timestamp")}
			})
			d.ID = m.Header.Get(headerWebhookID) // which is signed
			return d
		},
	}
}

type standard struct{}

func (standard) Name() string { return "standardwebhooks" }

// CheckSecret refuses what is neither base64 nor a key of v1a.
func (standard) CheckSecret(s webhook.Secret) error {
	if asymmetric(s) {
		return checkKey(s)
	}
	_, err := s.Decoded()
	return err
}

// CheckSigningSecret refuses public keys.
func (standard) CheckSigningSecret(s webhook.Secret) error {
	if !asymmetric(s) {
		return nil
	}
	_, err := privateKey(s)
	return err
}

func (standard) Sign(m *webhook.Message, secrets []webhook.Secret, now time.Time) error {
	id := m.EventID
	if id == "" {
		id = m.Header.Get(headerWebhookID)
	}
	if err := checkStandardID(id); err != nil {
		return err
	}
	seconds, err := signingTime(now)
	if err != nil {
		return err
	}
	value := make([]byte, 0, len(secrets)*48)
	for i, secret := range secrets {
		if i > 0 {
			value = append(value, ' ')
		}
		if asymmetric(secret) {
			key, err := privateKey(secret)
			if err != nil {
				return err
			}
			value = append(value, "v1a,"...)
			value = base64.StdEncoding.AppendEncode(value, ed25519.Sign(key, signedContent(id, seconds, m.Body)))
			continue
		}
		key, err := secret.Decoded()
		if err != nil {
			return err
		}
		sum := key.HMAC(m.Body, id, ".", seconds, ".")
		value = append(value, "v1,"...)
		value = base64.StdEncoding.AppendEncode(value, sum[:])
	}
	m.Header.Set(headerWebhookID, id)
	m.Header.Set(headerWebhookTimestamp, seconds)
	m.Header.Set(headerWebhookSignature, string(value))
	return nil
}

// signedContent is what both versions sign. HMACs are made without it, of the parts.
func signedContent(id, seconds string, body []byte) []byte {
	content := make([]byte, 0, len(id)+len(seconds)+len(body)+2)
	content = append(append(content, id...), '.')
	content = append(append(content, seconds...), '.')
	return append(content, body...)
}

// checkStandardID refuses IDs that make the signed text ambiguous, besides what no header carries.
func checkStandardID(id string) error {
	switch {
	case id == "":
		return &webhook.FieldError{Op: "sign", Field: "EventID", Reason: "is empty, and Standard Webhooks signs it"}
	case strings.Contains(id, "."):
		return &webhook.FieldError{Op: "sign", Field: "EventID", Reason: "has a '.', which separates what Standard Webhooks signs"}
	}
	return checkID(id)
}

func (standard) Verify(m *webhook.Message, secrets []webhook.Secret) (webhook.Verification, error) {
	id, err := webhook.OneHeader(m.Header, headerWebhookID)
	if err != nil {
		return webhook.Verification{}, err
	}
	seconds, err := webhook.OneHeader(m.Header, headerWebhookTimestamp)
	if err != nil {
		return webhook.Verification{}, err
	}
	value, err := webhook.OneHeader(m.Header, headerWebhookSignature)
	if err != nil {
		return webhook.Verification{}, err
	}
	if err := checkReceivedID(headerWebhookID, id); err != nil {
		return webhook.Verification{}, err
	}
	if strings.Contains(id, ".") {
		// "a" with the body "7.x" and "a.5" with the body "x" would be signed alike.
		return webhook.Verification{}, refuse(webhook.ErrHeaderMalformed, "header %s has a '.'", headerWebhookID)
	}
	at, err := webhook.ParseTimestamp(seconds)
	if err != nil {
		return webhook.Verification{}, err
	}
	matched, err := matchStandard(secrets, value, id, seconds, m.Body)
	if err != nil {
		return webhook.Verification{}, err
	}
	return webhook.Verification{Secret: matched, Timestamp: at, EventID: id}, nil
}

// matchStandard finds the secret that one of the header's signatures is of.
func matchStandard(secrets []webhook.Secret, value, id, seconds string, body []byte) (int, error) {
	kinds := versions{}
	for _, secret := range secrets {
		if asymmetric(secret) {
			kinds.v1a = true
		} else {
			kinds.v1 = true
		}
	}
	var space [4]mac // enough for a rotation, without the heap
	macs, sigs, err := parseSignatures(value, kinds, space[:0])
	if err != nil {
		return 0, err
	}
	var content []byte
	for i, secret := range secrets {
		if !asymmetric(secret) {
			if len(macs) == 0 {
				continue
			}
			key, err := secret.Decoded()
			if err != nil {
				return 0, err
			}
			if _, err := webhook.MatchHMAC([]webhook.Secret{key}, macs, body, id, ".", seconds, "."); err == nil {
				return i, nil
			}
			continue
		}
		key, err := publicKey(secret)
		if err != nil {
			return 0, err
		}
		if content == nil {
			content = signedContent(id, seconds, body)
		}
		for _, sig := range sigs {
			if ed25519.Verify(key, content, sig[:]) {
				return i, nil
			}
		}
	}
	if len(secrets) == 1 {
		return 0, refuse(webhook.ErrSignatureMismatch, "signature does not match under the secret")
	}
	return 0, refuse(webhook.ErrSignatureMismatch, "signature matches under none of %d secrets", len(secrets))
}

// versions are those that a verifier has secrets for.
type versions struct{ v1, v1a bool }

// String names them, for errors.
func (v versions) String() string {
	switch {
	case v.v1 && v.v1a:
		return "v1 or v1a"
	case v.v1a:
		return "v1a"
	}
	return "v1"
}

// parseSignatures reads "v1,<base64> v1a,<base64> …", appends to macs, and skips versions that are not wanted. One of a wanted version
// that is no signature is refused even beside a good one, for no sender writes such.
func parseSignatures(value string, want versions, macs []mac) (_ []mac, sigs []ed25519Signature, _ error) {
	items := 0
	for item := range strings.SplitSeq(value, " ") {
		if items++; items > maxSignatures {
			return nil, nil, refuse(webhook.ErrHeaderTooLong, "header %s has more than %d elements", headerWebhookSignature, maxSignatures)
		}
		version, coded, ok := strings.Cut(item, ",")
		switch {
		case !ok:
			return nil, nil, refuse(webhook.ErrHeaderMalformed, "header %s has an element that is not version,signature", headerWebhookSignature)
		case version == "v1" && want.v1:
			sum, err := webhook.DecodeBase64(coded)
			if err != nil {
				return nil, nil, err
			}
			macs = append(macs, sum)
		case version == "v1a" && want.v1a:
			if len(sigs) == maxAsymmetric {
				return nil, nil, refuse(webhook.ErrHeaderTooLong, "header %s has more than %d v1a signatures", headerWebhookSignature, maxAsymmetric)
			}
			sig, err := decodeSignature(coded)
			if err != nil {
				return nil, nil, err
			}
			sigs = append(sigs, sig)
		}
	}
	if len(macs)+len(sigs) == 0 {
		return nil, nil, refuse(webhook.ErrSignatureMismatch, "header %s has no %v signature", headerWebhookSignature, want)
	}
	return macs, sigs, nil
}
