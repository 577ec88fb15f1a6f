package profile

import (
	"encoding/base64"
	"strings"
	"time"

	"github.com/signalpost/webhook"
)

// The headers of Standard Webhooks, as net/http spells them.
const (
	headerWebhookID        = "Webhook-Id"
	headerWebhookTimestamp = "Webhook-Timestamp"
)

// StandardWebhooks is Standard Webhooks 1.0.0 with symmetric signatures (v1): webhook-id, webhook-timestamp and
// webhook-signature, which covers all three of ID, time and body. It is the format to choose where the choice is yours.
//
// A secret is base64, with or without "whsec_" before it, and the key is what that decodes to. Signing writes one signature per
// secret; verifying skips other versions, v1a among them. The key of an event is its ID.
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
		Describe: func(m *webhook.Message) (id, eventType string) {
			return m.Header.Get(headerWebhookID), string(readBody(m.Body).Type)
		},
	}
}

type standard struct{}

func (standard) Name() string { return "standardwebhooks" }

// CheckSecret refuses what is not base64.
func (standard) CheckSecret(s webhook.Secret) error {
	_, err := s.Decoded()
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
		key, err := secret.Decoded()
		if err != nil {
			return err
		}
		if i > 0 {
			value = append(value, ' ')
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
	var space [4]mac // enough for a rotation, without the heap
	macs, err := parseSignatures(value, space[:0])
	if err != nil {
		return webhook.Verification{}, err
	}
	var keySpace [4]webhook.Secret
	keys := keySpace[:0]
	for _, secret := range secrets {
		key, err := secret.Decoded()
		if err != nil {
			return webhook.Verification{}, err
		}
		keys = append(keys, key)
	}
	matched, err := webhook.MatchHMAC(keys, macs, m.Body, id, ".", seconds, ".")
	if err != nil {
		return webhook.Verification{}, err
	}
	return webhook.Verification{Secret: matched, Timestamp: at, EventID: id}, nil
}

// parseSignatures reads "v1,<base64> v1,<base64> …" and skips other versions. A v1 that is no signature is refused even
// beside a good one, for no sender writes such.
func parseSignatures(value string, macs []mac) ([]mac, error) {
	items := 0
	for item := range strings.SplitSeq(value, " ") {
		if items++; items > maxSignatures {
			return nil, refuse(webhook.ErrHeaderTooLong, "header %s has more than %d elements", headerWebhookSignature, maxSignatures)
		}
		version, coded, ok := strings.Cut(item, ",")
		if !ok {
			return nil, refuse(webhook.ErrHeaderMalformed, "header %s has an element that is not version,signature", headerWebhookSignature)
		}
		if version != "v1" {
			continue
		}
		sum, err := webhook.DecodeBase64(coded)
		if err != nil {
			return nil, err
		}
		macs = append(macs, sum)
	}
	if len(macs) == 0 {
		return nil, refuse(webhook.ErrSignatureMismatch, "header %s has no v1 signature", headerWebhookSignature)
	}
	return macs, nil
}
