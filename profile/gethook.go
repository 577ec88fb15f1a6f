package profile

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/internal/object"
)

// GetHook is the webhooks that GetHook sends to destinations: Webhook-Signature holds t=<unix seconds of the attempt> and
// v1=<hex HMAC-SHA256 of t, a full stop and the body>, one v1 per active secret. Other versions are skipped.
//
// Where its events have an ID is the business of the source behind it, so the key is the body until you set another.
func GetHook() webhook.Profile {
	return webhook.Profile{
		Name:      "gethook",
		Scheme:    getHook{},
		Schedule:  delays(30*time.Second, 2*time.Minute, 10*time.Minute, time.Hour),
		Timeout:   30 * time.Second,
		Success:   success2xx(),
		Tolerance: webhook.DefaultTolerance,
		Key:       webhook.KeyFromBody(),
		Describe: func(m *webhook.Message) webhook.Description {
			return describe(m, func(o *object.Object) webhook.Description { // t is the attempt's time, not the event's
				return webhook.Description{ID: o.Text("id"), Type: o.Text("type")}
			})
		},
	}
}

const headerWebhookSignature = "Webhook-Signature"

// maxSignatures bounds the signatures of one header; twice what our signers write.
const maxSignatures = 32

type getHook struct{}

func (getHook) Name() string { return "gethook" }

func (getHook) Sign(m *webhook.Message, secrets []webhook.Secret, now time.Time) error {
	seconds, err := signingTime(now)
	if err != nil {
		return err
	}
	value := make([]byte, 0, 16+len(secrets)*68)
	value = append(value, "t="...)
	value = append(value, seconds...)
	for _, secret := range secrets {
		sum := secret.HMAC(m.Body, seconds, ".")
		value = append(value, ",v1="...)
		value = hex.AppendEncode(value, sum[:])
	}
	m.Header.Set(headerWebhookSignature, string(value))
	return nil
}

// signingTime is now as the formats carry it.
func signingTime(now time.Time) (string, error) {
	text := strconv.FormatInt(now.Unix(), 10)
	if _, err := webhook.ParseTimestamp(text); err != nil {
		return "", &webhook.FieldError{Op: "sign", Field: "now", Reason: "is not a time that unix seconds can say"}
	}
	return text, nil
}

func (getHook) Verify(m *webhook.Message, secrets []webhook.Secret) (webhook.Verification, error) {
	value, err := webhook.OneHeader(m.Header, headerWebhookSignature)
	if err != nil {
		return webhook.Verification{}, err
	}
	var space [4]mac // enough for a rotation, without the heap
	signed, macs, err := parseTV1(value, space[:0])
	if err != nil {
		return webhook.Verification{}, err
	}
	at, err := webhook.ParseTimestamp(signed)
	if err != nil {
		return webhook.Verification{}, err
	}
	matched, err := webhook.MatchHMAC(secrets, macs, m.Body, signed, ".")
	if err != nil {
		return webhook.Verification{}, err
	}
	return webhook.Verification{Secret: matched, Timestamp: at}, nil
}

// parseTV1 reads "t=…,v1=…[,v1=…]" in any order, with spaces after commas. It skips unknown names; a v1 that is no
// signature is refused even beside a good one, for no sender writes such.
func parseTV1(value string, macs []mac) (signed string, _ []mac, err error) {
	pieces, haveTime := 0, false
	for piece := range strings.SplitSeq(value, ",") {
		if pieces++; pieces > 2*maxSignatures {
			return "", nil, refuse(webhook.ErrHeaderTooLong, "header %s has more than %d elements", headerWebhookSignature, 2*maxSignatures)
		}
		name, text, ok := strings.Cut(strings.TrimLeft(piece, " "), "=")
		switch {
		case !ok:
			return "", nil, refuse(webhook.ErrHeaderMalformed, "header %s has an element that is not name=value", headerWebhookSignature)
		case name == "t" && haveTime && text != signed:
			return "", nil, refuse(webhook.ErrHeaderContradicts, "header %s has two times", headerWebhookSignature)
		case name == "t" && haveTime:
			return "", nil, refuse(webhook.ErrHeaderRepeated, "header %s has its time twice", headerWebhookSignature)
		case name == "t":
			signed, haveTime = text, true
		case name == "v1":
			sum, err := webhook.DecodeHex(text)
			if err != nil {
				return "", nil, err
			}
			macs = append(macs, sum)
		}
	}
	switch {
	case !haveTime:
		return "", nil, refuse(webhook.ErrHeaderMalformed, "header %s has no t", headerWebhookSignature)
	case len(macs) == 0:
		return "", nil, refuse(webhook.ErrHeaderMalformed, "header %s has no v1", headerWebhookSignature)
	case len(macs) > maxSignatures:
		return "", nil, refuse(webhook.ErrHeaderTooLong, "header %s has %d signatures, want at most %d", headerWebhookSignature, len(macs), maxSignatures)
	}
	return signed, macs, nil
}
