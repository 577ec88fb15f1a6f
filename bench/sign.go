package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/signalpost/webhook"
)

// measureSign compares signer and verifier with the bare hash: crypto/hmac kept, reset and written to a kept buffer.
func measureSign(o *options) ([]*table, error) {
	t := newTable("Sign and verify, 1 KiB")
	secret, err := webhook.ParseSecret(benchSecret)
	if err != nil {
		return nil, err
	}
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		return nil, err
	}
	body := makePayload(0)
	mac := hmac.New(sha256.New, []byte(benchSecret))
	var failed error
	var sum [sha256.Size]byte
	var text [2 * sha256.Size]byte
	bare := func() {
		mac.Reset()
		mac.Write(body)
		hex.Encode(text[:], mac.Sum(sum[:0]))
	}
	sent := make(http.Header)
	if err := signer.Sign(sent, body); err != nil {
		return nil, err
	}
	header := make(http.Header)
	cases := []signCase{
		{"sign: bare crypto/hmac and hex", bare},
		{"sign: Signer", func() {
			failed = errors.Join(failed, signer.SignMessage(&webhook.Message{Header: header, Body: body}, time.Now()))
		}},
		{"verify: bare crypto/hmac, hex and hmac.Equal", func() {
			mac.Reset()
			mac.Write(body)
			hex.Decode(text[:], []byte(sent.Get("Signature")))
			hmac.Equal(text[:sha256.Size], mac.Sum(sum[:0]))
		}},
		{"verify: Verifier", func() {
			_, err := verifier.Verify(sent, body)
			failed = errors.Join(failed, err)
		}},
	}
	for range o.rounds {
		timeCases(t, cases)
	}
	return []*table{t}, failed
}

// signCase is one row of the table.
type signCase struct {
	row string
	fn  func()
}

// timeCases times each case once; the first is what the others are compared with.
func timeCases(t *table, cases []signCase) {
	var base float64
	for _, c := range cases {
		res := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.fn()
			}
		})
		ns := float64(res.T.Nanoseconds()) / float64(res.N)
		if base == 0 {
			base = ns
		}
		t.add(c.row, "ns", ns)
		t.add(c.row, "allocations", float64(res.AllocsPerOp()))
		t.add(c.row, "bytes", float64(res.AllocedBytesPerOp()))
		t.add(c.row, "ns / bare sign", ns/base)
	}
}
