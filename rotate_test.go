package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
	"github.com/signalpost/webhook/profile"
)

// rotating is a dispatcher with one endpoint in its store, of a profile.
func rotating(t *testing.T, p webhook.Profile, secrets ...webhook.Secret) *running {
	t.Helper()
	r := run(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{p}})
	ep := endpoint(t, "acme")
	ep.Secrets = secrets
	if err := r.PutEndpoint(t.Context(), ep); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *running) rotate(t *testing.T, s webhook.Secret, overlap time.Duration) {
	t.Helper()
	if err := r.RotateSecret(t.Context(), "acme", s, overlap); err != nil {
		t.Fatal(err)
	}
}

// knows sends an event and says which of secrets, as the only one a receiver has, verify it: "0 1".
func (r *running) knows(t *testing.T, p webhook.Profile, secrets ...webhook.Secret) string {
	t.Helper()
	r.send(t, webhook.Event{Type: "x", Payload: []byte("{}")})
	time.Sleep(10 * time.Millisecond)
	all := r.rc.requests()
	last := all[len(all)-1]
	var valid []string
	for i, s := range secrets {
		v, err := p.Verifier(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(last.header, []byte(last.body)); err == nil {
			valid = append(valid, fmt.Sprint(i))
		}
	}
	return strings.Join(valid, " ")
}

// What signs in the course of two rotations, the second within the first, for formats with room for one signature and for several.
func TestRotateSecret(t *testing.T) {
	a, b, c := webhook.GenerateSecret(), webhook.GenerateSecret(), webhook.GenerateSecret()
	one := []string{"0", "0", "0", "0", "1", "1", "2"}
	all := []string{"0", "0 1", "0 1 2", "0 1 2", "1 2", "1 2", "2"}
	for _, tt := range []struct {
		profile webhook.Profile
		want    []string
	}{
		{webhook.DefaultProfile(), one},
		{profile.GettBusiness("X-Signature"), one},
		{profile.TradeGecko(), one},
		{profile.GetHook(), all},
		{profile.StandardWebhooks(), all},
	} {
		t.Run(tt.profile.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rotating(t, tt.profile, a)
				start, seen := time.Now(), 0
				want := func(when string) {
					t.Helper()
					if got := r.knows(t, tt.profile, a, b, c); got != tt.want[seen] {
						t.Errorf("%s: verifies under %q, want %q", when, got, tt.want[seen])
					}
					seen++
				}
				until := func(at time.Duration) { time.Sleep(time.Until(start.Add(at))) }
				want("at first")
				until(time.Minute)
				r.rotate(t, b, 20*time.Minute)
				want("within the first overlap")
				until(10 * time.Minute)
				r.rotate(t, c, 20*time.Minute)
				want("within both")
				until(21*time.Minute - time.Second)
				want("just before the first ends")
				until(21*time.Minute + time.Second)
				want("after it")
				until(30*time.Minute - time.Second)
				want("just before the second ends")
				until(30*time.Minute + time.Second)
				want("after all")
				time.Sleep(2 * time.Second)
				if ep, err := r.store.GetEndpoint(t.Context(), "acme"); err != nil || len(ep.Secrets) != 1 || len(ep.Retiring) != 0 {
					t.Errorf("what has ended is still stored: %+v, %v", ep, err)
				}
			})
		})
	}
}

// stored is the endpoint's secrets as the store has them, each named by its place among all, and when the former ones end.
func (r *running) stored(t *testing.T, start time.Time, all ...webhook.Secret) string {
	t.Helper()
	ep, err := r.store.GetEndpoint(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	place := func(s webhook.Secret) int { return slices.IndexFunc(all, s.Equal) }
	var text []string
	for _, s := range ep.Secrets {
		text = append(text, fmt.Sprint(place(s)))
	}
	for _, s := range ep.Retiring {
		text = append(text, fmt.Sprintf("%d:%v", place(s.Secret), s.Until.Sub(start)))
	}
	return strings.Join(text, " ")
}

func TestRotationsMeet(t *testing.T) {
	a, b, c := webhook.GenerateSecret(), webhook.GenerateSecret(), webhook.GenerateSecret()
	const hour = time.Minute
	type step struct {
		after   time.Duration
		secret  webhook.Secret
		overlap time.Duration
		want    string
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"repeated", []step{{0, b, 3 * hour, "1 0:3m0s"}, {hour, b, 3 * hour, "1 0:3m0s"}}},
		{"ended early", []step{{0, b, 3 * hour, "1 0:3m0s"}, {hour, b, 0, "1"}}},
		{"brought nearer", []step{{0, b, 3 * hour, "1 0:3m0s"}, {hour, b, hour, "1 0:2m0s"}}},
		{"one within another", []step{{0, b, 3 * hour, "1 0:3m0s"}, {hour, c, 5 * hour, "2 1:6m0s 0:3m0s"}}},
		{"a shorter one within another", []step{{0, b, 5 * hour, "1 0:5m0s"}, {hour, c, hour, "2 1:2m0s 0:2m0s"}}},
		{"after a leak", []step{{0, b, 5 * hour, "1 0:5m0s"}, {hour, c, 0, "2"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rotating(t, webhook.DefaultProfile(), a)
				start := time.Now().Truncate(time.Microsecond)
				for i, s := range tt.steps {
					time.Sleep(s.after)
					r.rotate(t, s.secret, s.overlap)
					if got := r.stored(t, start, a, b, c); got != s.want {
						t.Errorf("after step %d the store has %q, want %q", i, got, s.want)
					}
				}
			})
		})
	}
}

// Many processes that rotate at once, to the same secret and to others, lose none.
func TestRotateSecretAtOnce(t *testing.T) {
	r := &running{store: memstore.New(), rc: &receiver{}}
	const n = 6
	var processes []*webhook.Dispatcher
	for range n {
		d, err := webhook.NewDispatcher(r.store, &webhook.DispatcherOptions{Transport: r.rc})
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, d)
	}
	all := []webhook.Secret{secret(t)}
	if err := processes[0].PutEndpoint(t.Context(), endpoint(t, "acme")); err != nil {
		t.Fatal(err)
	}
	for range n / 2 {
		all = append(all, webhook.GenerateSecret())
	}
	var wg sync.WaitGroup
	for i, d := range processes {
		wg.Go(func() {
			err := d.RotateSecret(t.Context(), "acme", all[1+i/2], time.Hour)
			if err != nil && !errors.Is(err, webhook.ErrInvalid) { // another has come between two that are alike
				t.Error(err)
			}
		})
	}
	wg.Wait()
	ep, err := r.store.GetEndpoint(t.Context(), "acme")
	if err != nil || len(ep.Secrets) != 1 || len(ep.Retiring) != n/2 {
		t.Fatalf("the endpoint has %d secrets and %d retiring, %v; want 1 and %d", len(ep.Secrets), len(ep.Retiring), err, n/2)
	}
	for i, s := range all {
		found := ep.Secrets[0].Equal(s) || slices.ContainsFunc(ep.Retiring, func(o webhook.RetiringSecret) bool { return o.Secret.Equal(s) })
		if !found {
			t.Errorf("secret %d is lost", i)
		}
	}
}

// A rotation is in the store: it goes on in a process that starts later, by the same deadline.
func TestRotationSurvivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, old, renewed := profile.GetHook(), webhook.GenerateSecret(), webhook.GenerateSecret()
		r := rotating(t, p, old)
		r.rotate(t, renewed, time.Hour)
		time.Sleep(30 * time.Minute)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r.start(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{p}})
		if got := r.knows(t, p, old, renewed); got != "0 1" {
			t.Errorf("after the restart it verifies under %q, want both", got)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		r.start(t, webhook.DispatcherOptions{Profiles: []webhook.Profile{p}})
		if got := r.knows(t, p, old, renewed); got != "1" {
			t.Errorf("after the end it verifies under %q, want the new one alone", got)
		}
	})
}

func TestRotateSecretRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good := webhook.GenerateSecret()
		r := &running{store: memstore.New(), rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{Profiles: profile.All()}, endpoint(t, "code"))
		ep := endpoint(t, "acme")
		ep.Profile, ep.Secrets = "standardwebhooks", []webhook.Secret{good}
		if err := r.PutEndpoint(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
		second := webhook.GenerateSecret()
		if err := r.RotateSecret(t.Context(), "acme", second, time.Hour); err != nil {
			t.Fatal(err)
		}
		noBase64, _ := webhook.IssuedSecret("this is no base64 !!")
		for _, tt := range []struct {
			id      string
			secret  webhook.Secret
			overlap time.Duration
			cause   error
			text    string
		}{
			{"acme", webhook.Secret{}, 0, webhook.ErrEmptySecret, "secret"},
			{"acme", webhook.GenerateSecret(), -1, webhook.ErrInvalid, "overlap"},
			{"acme", webhook.GenerateSecret(), 366 * 24 * time.Hour, webhook.ErrInvalid, "overlap"},
			{"acme", good, time.Hour, webhook.ErrInvalid, "former"},
			{"acme", noBase64, time.Hour, webhook.ErrInvalid, "base64"},
			{"code", webhook.GenerateSecret(), time.Hour, webhook.ErrInvalid, "code"},
			{"nobody", webhook.GenerateSecret(), time.Hour, webhook.ErrNotFound, "nobody"},
		} {
			err := r.RotateSecret(t.Context(), tt.id, tt.secret, tt.overlap)
			if !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("RotateSecret of %s by %v: %v; want %v that says %q", tt.id, tt.overlap, err, tt.cause, tt.text)
			}
		}
		if got, err := r.store.GetEndpoint(t.Context(), "acme"); err != nil || !got.Secrets[0].Equal(second) || len(got.Retiring) != 1 {
			t.Errorf("the endpoint after refusals: %+v, %v", got, err)
		}
		many := endpoint(t, "many")
		for range 16 {
			many.Retiring = append(many.Retiring, webhook.RetiringSecret{Secret: webhook.GenerateSecret(), Until: time.Now().Add(time.Hour)})
		}
		if err := r.PutEndpoint(t.Context(), many); !errors.Is(err, webhook.ErrInvalid) || !strings.Contains(err.Error(), "Retiring") {
			t.Errorf("17 secrets: %v", err)
		}
		inJSON, err := json.Marshal(many)
		text := fmt.Sprintf("%+v %#v %v %s", many, many, many.Retiring, inJSON)
		if err != nil || strings.Contains(text, many.Retiring[0].Secret.Reveal()[8:]) || !strings.Contains(string(inJSON), many.Retiring[0].Until.Format(time.RFC3339)[:16]) {
			t.Errorf("a retiring secret shows itself, or not its end: %s, %v", text, err)
		}
	})
}

// An attempt that is tried again is signed anew, with what signs then.
func TestRetriesAreSignedWithTheNewSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, old, renewed := webhook.DefaultProfile(), webhook.GenerateSecret(), webhook.GenerateSecret()
		r := rotating(t, p, old)
		r.rc.answer = func(_ *http.Request, n int) (int, http.Header, error) {
			if n == 1 {
				return 503, nil, nil
			}
			return 200, nil, nil
		}
		r.send(t, webhook.Event{Type: "x"})
		time.Sleep(time.Second)
		r.rotate(t, renewed, 0)
		time.Sleep(time.Minute)
		for i, want := range []webhook.Secret{old, renewed} {
			v, _ := p.Verifier(want)
			got := r.rc.requests()
			m := webhook.Message{Header: got[i].header, Body: []byte(got[i].body)}
			if _, err := v.VerifyMessage(&m); i == 1 && err != nil || i == 0 && !errors.Is(err, webhook.ErrTimestampTooOld) && err != nil {
				t.Errorf("attempt %d: %v", i+1, err)
			}
		}
	})
}
