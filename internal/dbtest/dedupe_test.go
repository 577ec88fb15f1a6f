package dbtest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// begin takes the key for a minute.
func begin(t *testing.T, s *sqlstore.Store, now time.Time, scope, key string, digest ...byte) *webhook.BeginResult {
	t.Helper()
	req := &webhook.BeginRequest{Now: now, Scope: scope, Key: key, Hold: time.Minute}
	copy(req.Digest[:], digest)
	res, err := s.Begin(t.Context(), req)
	if err != nil {
		t.Fatalf("Begin(%q, %q): %v", scope, key, err)
	}
	return res
}

func finish(s *sqlstore.Store, t *testing.T, now time.Time, scope, key string, token int64, r webhook.StoredResponse) error {
	return s.Finish(t.Context(), &webhook.FinishRequest{Now: now, Scope: scope, Key: key, Token: token, Response: r, Keep: time.Hour})
}

func release(s *sqlstore.Store, t *testing.T, now time.Time, scope, key string, token int64) error {
	return s.Release(t.Context(), &webhook.ReleaseRequest{Now: now, Scope: scope, Key: key, Token: token})
}

func wantStatus(t *testing.T, what string, got *webhook.BeginResult, want webhook.KeyStatus) {
	t.Helper()
	if got.Status != want {
		t.Fatalf("%s: status %d, want %d", what, got.Status, want)
	}
}

func TestDedupeLifeOfAKey(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		first := begin(t, a, at(0), "gett", "k")
		wantStatus(t, "a new key", first, webhook.KeyTaken)

		running := begin(t, b, at(30*time.Second), "gett", "k")
		wantStatus(t, "a held key", running, webhook.KeyRunning)
		if !running.HeldUntil.Equal(at(time.Minute)) {
			t.Errorf("HeldUntil = %v, want %v", running.HeldUntil, at(time.Minute))
		}
		if err := finish(a, t, at(time.Minute), "gett", "k", first.Token, webhook.StoredResponse{}); !errors.Is(err, webhook.ErrStaleKey) {
			t.Errorf("Finish at the hold's end: %v, want ErrStaleKey", err)
		}

		second := begin(t, b, at(time.Minute), "gett", "k")
		wantStatus(t, "a key whose hold is over", second, webhook.KeyTaken)
		if second.Token <= first.Token {
			t.Errorf("token %d after %d", second.Token, first.Token)
		}
		if err := finish(a, t, at(61*time.Second), "gett", "k", first.Token, webhook.StoredResponse{}); !errors.Is(err, webhook.ErrStaleKey) {
			t.Errorf("Finish under the old token: %v, want ErrStaleKey", err)
		}
		if err := release(a, t, at(61*time.Second), "gett", "k", first.Token); !errors.Is(err, webhook.ErrStaleKey) {
			t.Errorf("Release under the old token: %v, want ErrStaleKey", err)
		}

		resp := webhook.StoredResponse{Status: 201, Header: map[string][]string{"Content-Type": {"a/b"}, "X": {"1", "2"}},
			Body: []byte("\x00\xff body")}
		if err := finish(b, t, at(62*time.Second), "gett", "k", second.Token, resp); err != nil {
			t.Fatal(err)
		}
		done := begin(t, a, at(63*time.Second), "gett", "k")
		want := &webhook.BeginResult{Status: webhook.KeyDone, Response: &resp, DoneAt: at(62 * time.Second)}
		if diff := cmp.Diff(want, done); diff != "" {
			t.Errorf("a finished key (-want +got):\n%s", diff)
		}
		for name, err := range map[string]error{
			"Finish":  finish(b, t, at(64*time.Second), "gett", "k", second.Token, resp),
			"Release": release(b, t, at(64*time.Second), "gett", "k", second.Token),
		} {
			if !errors.Is(err, webhook.ErrStaleKey) {
				t.Errorf("%s of a finished key: %v, want ErrStaleKey", name, err)
			}
		}

		end := at(62*time.Second + time.Hour)
		wantStatus(t, "just before the memory ends", begin(t, a, end.Add(-time.Microsecond), "gett", "k"), webhook.KeyDone)
		third := begin(t, a, end, "gett", "k")
		wantStatus(t, "after the memory ended", third, webhook.KeyTaken)
		if third.Token <= second.Token {
			t.Errorf("token %d after %d", third.Token, second.Token)
		}
		if err := release(a, t, end, "gett", "k", third.Token); err != nil {
			t.Fatal(err)
		}
		fourth := begin(t, b, end, "gett", "k")
		wantStatus(t, "a released key", fourth, webhook.KeyTaken)
		if fourth.Token <= third.Token {
			t.Errorf("token %d after %d, which was released: its holder could finish it", fourth.Token, third.Token)
		}
		if err := finish(b, t, end, "gett", "k", fourth.Token, webhook.StoredResponse{Status: 204}); err != nil {
			t.Fatal(err)
		}
		empty := begin(t, b, end, "gett", "k")
		if diff := cmp.Diff(&webhook.StoredResponse{Status: 204}, empty.Response); diff != "" {
			t.Errorf("a response without header and body (-want +got):\n%s", diff)
		}
	})
}

func TestDedupeDigest(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		s, other := v.open(t)
		tests := []struct {
			name         string
			first, again []byte
			want         webhook.KeyStatus
		}{
			{"same", []byte{1}, []byte{1}, webhook.KeyDone},
			{"other", []byte{1}, []byte{2}, webhook.KeyTaken},
			{"none asked", []byte{1}, nil, webhook.KeyDone},
			{"none kept", nil, []byte{1}, webhook.KeyTaken},
			{"none at all", nil, nil, webhook.KeyDone},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				res := begin(t, s, at(0), "digest", tt.name, tt.first...)
				wantStatus(t, "first", res, webhook.KeyTaken)
				wantStatus(t, "while it runs", begin(t, other, at(1), "digest", tt.name, tt.again...), webhook.KeyRunning)
				if err := finish(s, t, at(2), "digest", tt.name, res.Token, webhook.StoredResponse{Status: 200}); err != nil {
					t.Fatal(err)
				}
				again := begin(t, other, at(3), "digest", tt.name, tt.again...)
				wantStatus(t, "when it is done", again, tt.want)
				if tt.want == webhook.KeyTaken && again.Token <= res.Token {
					t.Errorf("token %d after %d", again.Token, res.Token)
				}
			})
		}
	})
}

func TestDedupeKeysAreComparedBytewise(t *testing.T) {
	keys := []struct{ scope, key string }{
		{"s", "k"}, {"s", "k "}, {"s", "k  "}, {"s", " k"}, {"s", "K"}, {"S", "k"}, {"s ", "k"}, {"", "k"}, {"", "sk"}, {"sk", "k"},
		{"s", "k\t"}, {"s", "k\n"}, {"s", "%"}, {"s", "_"}, {"s", `\`}, {"s", `'`}, {"s", `"`}, {"s", "?"}, {"s", "$1"}, {"s", ":a"},
		{"s", "é"}, {"s", "e\u0301"}, {"s", "É"}, {"s", "ß"}, {"s", "ss"}, {"s", "ı"}, {"s", "i"}, {"s", "🂡"}, {"s", "🂢"}, {"s", "\ufeffk"},
		{"s", "k\u200b"}, {"s", "\u007f"}, {"s", "\x01"}, {"s", "\uffff"}, {"s", "\U0010ffff"},
		{strings.Repeat("s", 255), strings.Repeat("ä", 127)}, {strings.Repeat("s", 255), strings.Repeat("ä", 126) + "a"},
		{strings.Repeat("s", 255), strings.Repeat("k", 254)}, {strings.Repeat("s", 255), strings.Repeat("k", 255)},
	}
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		for _, k := range keys {
			if res := begin(t, a, at(0), k.scope, k.key); res.Status != webhook.KeyTaken {
				t.Errorf("%q %q: status %d: taken for another key", k.scope, k.key, res.Status)
			}
		}
		for _, k := range keys {
			if res := begin(t, b, at(1), k.scope, k.key); res.Status != webhook.KeyRunning {
				t.Errorf("%q %q: status %d, though it was taken", k.scope, k.key, res.Status)
			}
		}
	})
}

func TestDedupeRefusesWhatItCannotKeep(t *testing.T) {
	tests := []struct{ scope, key, want string }{
		{"s", "", "webhook: dedupe: Key: is missing"},
		{"s", "a\x00b", `webhook: dedupe: Key: "a\x00b" contains a NUL`},
		{"s", "a\xff", `webhook: dedupe: Key: "a\xff" is not UTF-8`},
		{"s", strings.Repeat("k", 256), "webhook: dedupe: Key: has 256 bytes, at most 255"},
		{"a\x00", "k", `webhook: dedupe: Scope: "a\x00" contains a NUL`},
		{strings.Repeat("s", 256), "k", "webhook: dedupe: Scope: has 256 bytes, at most 255"},
	}
	each(t, mainVariants, func(t *testing.T, v variant) {
		s, _ := v.open(t)
		for _, tt := range tests {
			_, err := s.Begin(t.Context(), &webhook.BeginRequest{Now: at(0), Scope: tt.scope, Key: tt.key, Hold: time.Minute})
			for name, err := range map[string]error{
				"Begin":   err,
				"Finish":  finish(s, t, at(0), tt.scope, tt.key, 1, webhook.StoredResponse{}),
				"Release": release(s, t, at(0), tt.scope, tt.key, 1),
			} {
				if err == nil || err.Error() != tt.want || !errors.Is(err, webhook.ErrInvalid) {
					t.Errorf("%s(%q, %q): %v, want %s", name, tt.scope, tt.key, err, tt.want)
				}
			}
		}
	})
}

// TestDedupeOneOfManyTakesAKey lets 50 callers on two handles have the same key at once: new, held too long, and freed.
func TestDedupeOneOfManyTakesAKey(t *testing.T) {
	const callers = 50
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		handles := []*sqlstore.Store{a, b}
		race := func(what, key string, now time.Time) (token int64) {
			t.Helper()
			results, errs := make([]*webhook.BeginResult, callers), make([]error, callers)
			together(callers, func(i int) {
				results[i], errs[i] = handles[i%2].Begin(t.Context(),
					&webhook.BeginRequest{Now: now, Scope: "s", Key: key, Hold: time.Minute})
			})
			taken := 0
			for i, res := range results {
				switch {
				case errs[i] != nil:
					t.Fatalf("%s: %v", what, errs[i])
				case res.Status == webhook.KeyTaken:
					taken, token = taken+1, res.Token
				case res.Status != webhook.KeyRunning || !res.HeldUntil.Equal(now.Add(time.Minute)):
					t.Fatalf("%s: %+v, want running", what, res)
				}
			}
			if taken != 1 {
				t.Fatalf("%s: %d of %d callers took the key", what, taken, callers)
			}
			return token
		}
		for round := range 5 {
			key := fmt.Sprint("key", round)
			race("a new key", key, at(0))
			token := race("a key whose hold is over", key, at(time.Hour))
			if err := release(a, t, at(time.Hour), "s", key, token); err != nil {
				t.Fatalf("the one who took it does not hold it: %v", err)
			}
			race("a released key", key, at(time.Hour))
		}
	})
}

// TestDedupeTakesAKeyAfterAnother lets callers pass one key around, each taking and releasing it: never two at once.
func TestDedupeTakesAKeyAfterAnother(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		handles := []*sqlstore.Store{a, b}
		inside := make(chan struct{}, 1)
		took := make([]int, 8)
		together(len(took), func(i int) {
			s := handles[i%2]
			for range 40 {
				res, err := s.Begin(t.Context(), &webhook.BeginRequest{Now: at(0), Scope: "s", Key: "k", Hold: time.Minute})
				if err != nil {
					t.Error(err)
					return
				}
				if res.Status != webhook.KeyTaken {
					continue
				}
				select {
				case inside <- struct{}{}:
				default:
					t.Error("two hold the key at once")
				}
				took[i]++
				<-inside
				if err := release(s, t, at(0), "s", "k", res.Token); err != nil {
					t.Error(err)
				}
			}
		})
		t.Log("taken:", took)
	})
}

func TestPruneKeys(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		s, _ := v.open(t)
		for i := range 5 {
			begin(t, s, at(time.Duration(i)*time.Minute), "s", fmt.Sprint(i)) // ends at i+1 minutes
		}
		done := begin(t, s, at(0), "s", "done")
		if err := finish(s, t, at(0), "s", "done", done.Token, webhook.StoredResponse{Body: bytes.Repeat([]byte("x"), 64<<10)}); err != nil {
			t.Fatal(err)
		}
		prune := func(now time.Time, limit int) int {
			t.Helper()
			res, err := s.Prune(t.Context(), &webhook.PruneRequest{Now: now, DedupeKeys: true, Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			return res.DedupeKeys
		}
		for i, step := range []struct {
			now         time.Duration
			limit, want int
		}{
			{time.Minute - time.Microsecond, 0, 0}, {time.Minute, 0, 1}, {4 * time.Minute, 2, 2}, {4 * time.Minute, 2, 1},
			{time.Hour - time.Microsecond, 0, 1}, {time.Hour, 0, 1}, {48 * time.Hour, 0, 0},
		} {
			if got := prune(at(step.now), step.limit); got != step.want {
				t.Errorf("step %d: removed %d, want %d", i, got, step.want)
			}
		}
		again := begin(t, s, at(time.Hour), "s", "done")
		wantStatus(t, "a forgotten key", again, webhook.KeyTaken)
		if again.Token <= done.Token {
			t.Errorf("token %d after %d, which was forgotten", again.Token, done.Token)
		}
	})
}
