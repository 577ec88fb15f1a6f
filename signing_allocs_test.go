package webhook

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What signing allocates: the header's values, in one string and one slice. Verifying allocates nothing.
func TestSigningAllocations(t *testing.T) {
	secret, body := GenerateSecret(), benchmarkBody(1<<10)
	signer, verifier := mustSigner(t, secret), mustVerifier(t, secret)
	m, now := &Message{Header: http.Header{}, Body: body}, time.Now()
	sign := func() {
		if err := signer.SignMessage(m, now); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		most float64
		do   func()
	}{
		{"signing", 2, sign},
		{"verifying", 0, func() {
			if _, err := verifier.VerifyMessage(m); err != nil {
				t.Fatal(err)
			}
		}},
		{"verifying header and body", 0, func() {
			if _, err := verifier.Verify(m.Header, m.Body); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		now = time.Now()
		sign()
		if got := testing.AllocsPerRun(100, tc.do); got > tc.most && !RaceDetector {
			t.Errorf("%s: %v allocations, want at most %v", tc.name, got, tc.most)
		}
	}
}

// Values of an earlier attempt that somebody else holds, as through a shallow copy of the header, stay as they are.
func TestSignLeavesEarlierValues(t *testing.T) {
	signer, now := mustSigner(t, GenerateSecret()), time.Unix(1_770_000_000, 0)
	m := &Message{Header: http.Header{}, Body: []byte("one")}
	for _, again := range []struct {
		name string
		body string
		now  time.Time
	}{
		{"first", "one", now},
		{"the same", "one", now},
		{"another second", "one", now.Add(time.Second)},
		{"another body", "two", now.Add(time.Second)},
	} {
		earlier, deep := maps.Clone(m.Header), m.Header.Clone()
		m.Body = []byte(again.body)
		if err := signer.SignMessage(m, again.now); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(deep, earlier); diff != "" {
			t.Errorf("%s: earlier values changed:\n%s", again.name, diff)
		}
		fresh := &Message{Header: http.Header{}, Body: m.Body}
		if err := signer.SignMessage(fresh, again.now); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fresh.Header, m.Header); diff != "" {
			t.Errorf("%s: not as signed anew:\n%s", again.name, diff)
		}
	}
}
