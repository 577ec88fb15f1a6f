package webhook

import (
	"encoding/hex"
	"slices"
	"sync/atomic"
	"time"
)

// SecretUse is how often one of a [Verifier]'s secrets was what a request needed.
type SecretUse struct {
	Position    int    // among the verifier's secrets, as [Verification].Secret counts them; 0 is the current one
	Fingerprint string // of the secret: see [Secret.Fingerprint]
	Count       int64  // requests that verified under it and none before it, since it was first given to the verifier
	Last        time.Time
}

// verifierKeys are the secrets of a verifier at a time. They are never changed once made.
type verifierKeys struct {
	secrets []Secret
	uses    []*secretUse // of each
}

// secretUse counts while verifiers verify. A secret keeps it when others come and go.
type secretUse struct {
	count atomic.Int64
	last  atomic.Int64 // Unix ns; 0: never
}

// SetSecrets replaces the secrets that the verifier accepts, the current one first, as [Profile.Verifier] takes them: at once, while requests come in,
// so that a rotation needs no restart. Requests that are being verified finish under the former ones. What was counted of secrets that stay
// is kept. When it fails, with a [*FieldError], nothing has changed.
func (v *Verifier) SetSecrets(secrets ...Secret) error {
	if err := (Profile{Scheme: v.scheme}).check("verifier", secrets); err != nil {
		return err
	}
	for {
		old := v.keys.Load()
		if v.keys.CompareAndSwap(old, newVerifierKeys(secrets, old)) {
			return nil
		}
	}
}

// newVerifierKeys keeps what old, which may be nil, has counted of secrets.
func newVerifierKeys(secrets []Secret, old *verifierKeys) *verifierKeys {
	k := &verifierKeys{secrets: slices.Clone(secrets), uses: make([]*secretUse, len(secrets))}
	for i, s := range k.secrets {
		if old != nil {
			if was := slices.IndexFunc(old.secrets, s.Equal); was >= 0 {
				k.uses[i] = old.uses[was]
				continue
			}
		}
		k.uses[i] = new(secretUse)
	}
	return k
}

// active are the keys to verify with; none for a verifier that was not made with NewVerifier or Profile.Verifier.
func (v *Verifier) active() *verifierKeys {
	if k := v.keys.Load(); k != nil {
		return k
	}
	return &verifierKeys{}
}

// SecretUses tells of each of the verifier's secrets how often it was needed and when it last was, in their order. A former secret that
// was not needed for longer than the sender's retries last, in any process that receives, can go. A request that is signed with several
// counts for the first alone that matches. Each verifier counts for itself, from its start; [Trace].OldSecret is for counting elsewhere.
func (v *Verifier) SecretUses() []SecretUse {
	k := v.active()
	uses := make([]SecretUse, len(k.secrets))
	for i, s := range k.secrets {
		uses[i] = SecretUse{Position: i, Fingerprint: s.Fingerprint(), Count: k.uses[i].count.Load()}
		if ns := k.uses[i].last.Load(); ns != 0 {
			uses[i].Last = time.Unix(0, ns)
		}
	}
	return uses
}

// count counts a request that verified under the i-th secret. A scheme of the user's may say anything.
func (k *verifierKeys) count(i int, now time.Time) {
	if i < 0 || i >= len(k.uses) {
		return
	}
	k.uses[i].count.Add(1)
	k.uses[i].last.Store(now.UnixNano())
}

// Fingerprint names a secret without showing it: 8 hex digits of an HMAC under it, "" for the zero Secret. It is for telling secrets apart in logs
// and on dashboards of one's own people; of a weak secret it tells whether a guess is right, as a signature does.
func (s Secret) Fingerprint() string {
	if s.IsZero() {
		return ""
	}
	sum := s.HMAC([]byte("webhook: fingerprint of a secret"))
	return hex.EncodeToString(sum[:4])
}
