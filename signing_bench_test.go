package webhook

import (
	"bytes"
	"net/http"
	"testing"
	"time"
)

func benchmarkBody(size int) []byte {
	return bytes.Repeat([]byte("0123456789abcdef"), size/16)
}

func BenchmarkSign(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(sizeName(size), func(b *testing.B) {
			signer := mustSigner(b, GenerateSecret())
			m := &Message{Header: http.Header{}, Body: benchmarkBody(size)}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				if err := signer.SignMessage(m, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(sizeName(size), func(b *testing.B) {
			secret := GenerateSecret()
			header, body := http.Header{}, benchmarkBody(size)
			if err := mustSigner(b, secret).Sign(header, body); err != nil {
				b.Fatal(err)
			}
			verifier := mustVerifier(b, secret)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verifier.Verify(header, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHMAC is the bound: what the two above cannot be faster than.
func BenchmarkHMAC(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(sizeName(size), func(b *testing.B) {
			secret, body := GenerateSecret(), benchmarkBody(size)
			b.ReportAllocs()
			for b.Loop() {
				secret.HMAC(body, "id", ".", "1770000000", ".")
			}
		})
	}
}

func BenchmarkDefaultKey(b *testing.B) {
	m := &Message{Body: []byte(gettBody)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DefaultKey(m); err != nil {
			b.Fatal(err)
		}
	}
}

func sizeName(size int) string {
	if size == 1<<10 {
		return "1KiB"
	}
	return "64KiB"
}
