package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// keyBytes are 32 bytes that look random, another 32 for each n.
func keyBytes(n byte) []byte {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)*37 + n*101 + 128
	}
	return key
}

func encryptionKey(t testing.TB, id string, n byte) webhook.EncryptionKey {
	t.Helper()
	key, err := webhook.NewEncryptionKey(id, keyBytes(n))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func aesGCM(t testing.TB, keys ...webhook.EncryptionKey) *webhook.AESGCM {
	t.Helper()
	c, err := webhook.NewAESGCM(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAESGCM(t *testing.T) {
	const about, plain = "webhook endpoint\x00secrets\x00acme", "a secret that nobody may see"
	ctx := t.Context()
	one, two := encryptionKey(t, "2026-05", 1), encryptionKey(t, "2026-11", 2)
	old := aesGCM(t, one)
	sealed, err := old.Seal(ctx, []byte(plain), about)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := old.Seal(ctx, []byte(plain), about)
	if bytes.Equal(sealed, again) || bytes.Contains(sealed, []byte(plain)) || !bytes.Contains(sealed, []byte("2026-05")) {
		t.Errorf("sealed as %q and %q", sealed, again)
	}
	changed := func(i int) []byte {
		c := bytes.Clone(sealed)
		c[i] ^= 1
		return c
	}
	for _, c := range []struct {
		name   string
		cipher *webhook.AESGCM
		sealed []byte
		about  string
		err    error
	}{
		{"its key", old, sealed, about, nil},
		{"its key behind another", aesGCM(t, two, one), sealed, about, nil},
		{"another key", aesGCM(t, two), sealed, about, webhook.ErrUnknownKey},
		{"another key of the same name", aesGCM(t, encryptionKey(t, "2026-05", 9)), sealed, about, webhook.ErrSealBroken},
		{"no cipher", nil, sealed, about, webhook.ErrUnknownKey},
		{"for another endpoint", old, sealed, "webhook endpoint\x00secrets\x00acm", webhook.ErrSealBroken},
		{"for another column", old, sealed, "webhook endpoint\x00credentials\x00acme", webhook.ErrSealBroken},
		{"another name in it", aesGCM(t, one, encryptionKey(t, "2026-04", 1)), changed(8), about, webhook.ErrSealBroken},
		{"another nonce", old, changed(9), about, webhook.ErrSealBroken},
		{"other content", old, changed(25), about, webhook.ErrSealBroken},
		{"another tag", old, changed(len(sealed) - 1), about, webhook.ErrSealBroken},
		{"another version", old, changed(0), about, webhook.ErrSealBroken},
		{"cut in the head", old, sealed[:5], about, webhook.ErrSealBroken},
		{"cut in the nonce", old, sealed[:15], about, webhook.ErrSealBroken},
		{"nothing", old, nil, about, webhook.ErrSealBroken},
	} {
		got, err := c.cipher.Open(ctx, c.sealed, c.about)
		if !errors.Is(err, c.err) || err == nil && string(got) != plain || err != nil && got != nil {
			t.Errorf("%s: opened as %q, %v; want the error %v", c.name, got, err, c.err)
		}
	}
	if rotated := aesGCM(t, two, one); rotated.IsCurrent(sealed) || !old.IsCurrent(sealed) || rotated.IsCurrent(nil) {
		t.Error("IsCurrent does not tell what the first key has sealed")
	}
	ended, end := context.WithCancel(ctx)
	end()
	if _, err := old.Seal(ended, nil, about); !errors.Is(err, context.Canceled) {
		t.Errorf("sealed in a context that has ended: %v", err)
	}
}

func TestEncryptionKeysAreCheckedAtTheDoor(t *testing.T) {
	hex := []byte("00112233445566778899aabbccddeeff") // 32 bytes, but of text
	for _, c := range []struct {
		id    string
		key   []byte
		field string
	}{
		{"k", keyBytes(1)[:31], "key"},
		{"k", append(keyBytes(1), 1), "key"},
		{"k", nil, "key"},
		{"k", hex, "key"},
		{"k", make([]byte, 32), "key"},
		{"", keyBytes(1), "id"},
		{"a b", keyBytes(1), "id"},
		{strings.Repeat("k", 33), keyBytes(1), "id"},
	} {
		_, err := webhook.NewEncryptionKey(c.id, c.key)
		fe, ok := errors.AsType[*webhook.FieldError](err)
		if !ok || fe.Field != c.field || len(c.key) > 8 && strings.Contains(err.Error(), string(c.key[:8])) {
			t.Errorf("NewEncryptionKey(%q, %d bytes): %v; want an error about %s", c.id, len(c.key), err, c.field)
		}
	}
	k := encryptionKey(t, "k", 1)
	for _, keys := range [][]webhook.EncryptionKey{nil, {k, {}}, {k, encryptionKey(t, "k", 2)}} {
		if _, err := webhook.NewAESGCM(keys...); !errors.Is(err, webhook.ErrInvalid) {
			t.Errorf("NewAESGCM of %v: %v", keys, err)
		}
	}
}

func TestEncryptionKeysShowNothing(t *testing.T) {
	key := encryptionKey(t, "2026-11", 3)
	cipher := aesGCM(t, key)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key, "cipher", cipher)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", key, "cipher", cipher)
	inJSON, err := json.Marshal(map[string]any{"key": key, "cipher": cipher})
	if err != nil {
		t.Fatal(err)
	}
	all := log.String() + string(inJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all += fmt.Sprintf(verb+verb+verb, key, cipher, struct{ c *webhook.AESGCM }{cipher})
		all += fmt.Sprintf(verb, *cipher)
	}
	raw := keyBytes(3)
	for _, shown := range []string{string(raw[:4]), fmt.Sprintf("%x", raw[:4]), fmt.Sprintf("%d %d", raw[0], raw[1]), fmt.Sprintf("%#x, %#x", raw[0], raw[1])} {
		if strings.Contains(all, shown) {
			t.Errorf("a key shows itself as %q in %q", shown, all)
		}
	}
	if !strings.Contains(all, "2026-11") {
		t.Error("a key does not show its name")
	}
}

// rereadWithin is how soon an endpoint that can be read again gets what waits for it.
const rereadWithin = 12 * time.Second

// An endpoint whose secrets cannot be read harms no other, and what is for it waits until they can be.
func TestUnreadableSecretsLetDeliveriesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &unreadable{Store: memstore.New(), err: fmt.Errorf("endpoint \"sealed\": %w: key %q", webhook.ErrUnknownKey, "k1")}
		r := &running{store: store.Store, on: store, rc: &receiver{}}
		for _, id := range []string{"sealed", "open"} {
			if err := store.PutEndpoint(t.Context(), endpoint(t, id)); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		var alarmed atomic.Bool
		trace := &webhook.Trace{Alarm: func(_ context.Context, info webhook.AlarmInfo) {
			if info.Kind == webhook.AlarmOldestDue {
				alarmed.Store(true)
			}
		}}
		r.start(t, webhook.DispatcherOptions{Logger: slog.New(slog.NewTextHandler(&log, nil)), Trace: trace})
		id := r.send(t, webhook.Event{Type: "x"})
		time.Sleep(10 * time.Hour) // longer than the schedule
		if got := r.rc.requests(); len(got) != 1 || got[0].url != "https://open.example/hooks" {
			t.Fatalf("requests while one endpoint cannot be read: %v", got)
		}
		d := r.deliveryTo(t, id, "sealed")
		if d.State != webhook.Queued || d.Attempts != 0 || time.Since(d.DueAt) < 9*time.Hour {
			t.Errorf("delivery to the endpoint that cannot be read: %+v", d)
		}
		if !alarmed.Load() {
			t.Error("no alarm tells of what waits")
		}
		if _, err := r.SendTest(t.Context(), "sealed", nil); !errors.Is(err, webhook.ErrUnknownKey) {
			t.Errorf("a test of it: %v", err)
		}
		store.heal()
		time.Sleep(rereadWithin)
		if got := r.rc.requests(); len(got) != 2 || got[1].url != "https://sealed.example/hooks" || got[1].header.Get("Signature") == "" {
			t.Errorf("requests once it can be read: %v", got)
		}
		if err := r.stop(); err != nil || strings.Count(log.String(), "k1") != 1 {
			t.Errorf("%v, and the log does not name the key once: %s", err, &log)
		}
	})
}

// A process that cannot read an endpoint does not take its verification from it, and Explain says what stands in the way there.
func TestUnreadableEndpointStaysVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sealed := &unreadable{Store: memstore.New(), err: webhook.ErrUnknownKey}
		r := &running{store: sealed.Store, rc: &receiver{}}
		r.start(t, webhook.DispatcherOptions{})
		put(t, r.Dispatcher, verified(t, "sealed", webhook.VerifyPing))
		time.Sleep(time.Minute)
		other := &running{store: sealed.Store, on: sealed, rc: &receiver{}}
		other.start(t, webhook.DispatcherOptions{Logger: quiet()})
		for range 600 {
			time.Sleep(500 * time.Millisecond)
			if holds, err := r.store.ListHolds(t.Context(), time.Now()); err != nil || len(holds) > 0 {
				t.Fatalf("it is on hold: %+v, %v", holds, err)
			}
		}
		id := other.send(t, webhook.Event{Type: "a"})
		time.Sleep(time.Second)
		if d := r.deliveryTo(t, id, "sealed"); d.State != webhook.Delivered {
			t.Errorf("it is %s: %s", d.State, d.Reason)
		}
		r.stop()
		id = other.send(t, webhook.Event{Type: "a"})
		x, err := other.Explain(t.Context(), id)
		if err != nil || !strings.Contains(x.String(), "cannot send to its endpoint: it cannot be read") {
			t.Errorf("explained as %v, %v", x, err)
		}
	})
}

// unreadable is a store that cannot open what it keeps of the endpoint "sealed", until it is healed.
type unreadable struct {
	*memstore.Store
	mu  sync.Mutex
	err error
}

func (s *unreadable) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = nil
}

func (s *unreadable) fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *unreadable) EndpointChanges(ctx context.Context, since int64) (*webhook.EndpointChanges, error) {
	res, err := s.Store.EndpointChanges(ctx, since)
	if fault := s.fault(); err == nil && fault != nil {
		for i := range res.Put {
			if ep := &res.Put[i]; ep.ID == "sealed" {
				*ep = webhook.Endpoint{ID: ep.ID, URL: "https://sealed.example", Types: ep.Types, Verify: ep.Verify}
				res.Unreadable = map[string]error{ep.ID: fault}
			}
		}
	}
	return res, err
}

func (s *unreadable) GetEndpoint(ctx context.Context, id string) (webhook.Endpoint, error) {
	if fault := s.fault(); fault != nil && id == "sealed" {
		return webhook.Endpoint{}, fault
	}
	return s.Store.GetEndpoint(ctx, id)
}

// deliveryTo is the delivery of an event to one of its endpoints.
func (r *running) deliveryTo(t *testing.T, eventID, endpointID string) webhook.Delivery {
	t.Helper()
	res, err := r.store.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: eventID, EndpointID: endpointID})
	if err != nil || len(res.Deliveries) != 1 {
		t.Fatalf("event %s has %v to %s, %v; want one delivery", eventID, res, endpointID, err)
	}
	return res.Deliveries[0]
}

// Whatever is stored, opening it neither panics nor gives anything but what was sealed. (Each process that fuzzes has seeds of its own nonces.)
func FuzzAESGCMOpen(f *testing.F) {
	c := aesGCM(f, encryptionKey(f, "2026-11", 1), encryptionKey(f, "k", 2))
	good, err := c.Seal(f.Context(), []byte("plain"), "about")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, good[:20], good[:9], {1}, {1, 255}, {1, 0}, nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := c.Open(t.Context(), sealed, "about")
		if err == nil && string(plain) != "plain" {
			t.Errorf("%x opened as %q", sealed, plain)
		}
		if err != nil && !errors.Is(err, webhook.ErrSealBroken) && !errors.Is(err, webhook.ErrUnknownKey) {
			t.Error(err)
		}
		c.IsCurrent(sealed)
	})
}
