package webhook_test

import (
	"crypto/rand"
	"fmt"

	"github.com/signalpost/webhook"
)

// Keys come from wherever the service keeps its secrets, 32 random bytes each. The first seals, all open:
//
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, &sqlstore.Options{Cipher: cipher})
//	n, err := store.Reseal(ctx) // once every process has the new key; then the old one can go
func ExampleNewAESGCM() {
	random := func() []byte { key := make([]byte, 32); rand.Read(key); return key }
	current, err := webhook.NewEncryptionKey("2026-11", random())
	if err != nil {
		fmt.Println(err)
		return
	}
	old, _ := webhook.NewEncryptionKey("2026-05", random())
	cipher, err := webhook.NewAESGCM(current, old)
	fmt.Println(current, err, cipher != nil)

	_, err = webhook.NewEncryptionKey("2027-05", []byte("too short"))
	fmt.Println(err)
	// Output:
	// 2026-11 [redacted] <nil> true
	// webhook: encryption key: key: has 9 bytes, want 32 random ones (decode base64 or hex first)
}
