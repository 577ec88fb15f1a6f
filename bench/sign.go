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

// signCase is one function to be timed.
type signCase struct {
	row string
	fn  func() error
}

// benchKeys are both ends of the secret that all use.
func benchKeys() (*webhook.Signer, *webhook.Verifier, error) {
	secret, err := webhook.ParseSecret(benchSecret)
	if err != nil {
		return nil, nil, err
	}
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := webhook.NewVerifier(secret)
	return signer, verifier, err
}

// signCases are signer and verifier, each after the bare hash: crypto/hmac kept, reset and written to a kept buffer.
func signCases() ([]signCase, error) {
	signer, verifier, err := benchKeys()
	if err != nil {
		return nil, err
	}
	body, sent, header := makePayload(0), make(http.Header), make(http.Header)
	if err := signer.Sign(sent, body); err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, []byte(benchSecret))
	var sum [sha256.Size]byte
	var text [2 * sha256.Size]byte
	hash := func() []byte {
		mac.Reset()
		mac.Write(body)
		return mac.Sum(sum[:0])
	}
	m := &webhook.Message{Header: header, Body: body} // a caller that signs much keeps it
	return []signCase{
		{"sign: bare crypto/hmac and hex", func() error { hex.Encode(text[:], hash()); return nil }},
		{signRow, func() error { return signer.SignMessage(m, time.Now()) }},
		{"verify: bare crypto/hmac, hex and hmac.Equal", func() error {
			hex.Decode(text[:], []byte(sent.Get("Signature")))
			if !hmac.Equal(text[:sha256.Size], hash()) {
				return errors.New("bare hash: not equal")
			}
			return nil
		}},
		{verifyOnlyRow, func() error { _, err := verifier.Verify(sent, body); return err }},
	}, nil
}

const (
	signRow       = "sign: Signer"
	verifyOnlyRow = "verify: Verifier"
)

// measureSign compares signer and verifier with the bare hash.
func measureSign(o *options) ([]*table, error) {
	t := newTable("Sign and verify, 1 KiB")
	for _, row := range []string{signRow, verifyOnlyRow} {
		t.atMost(row, "ns / bare", 1.15)
		t.atMost(row, "allocations", 0)
	}
	cases, err := signCases()
	if err != nil {
		return nil, err
	}
	for range o.rounds {
		var bare float64
		for i, c := range cases {
			var failed error
			res := testing.Benchmark(func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := c.fn(); err != nil {
						failed = err
					}
				}
			})
			if failed != nil {
				return []*table{t}, failed
			}
			ns := float64(res.T.Nanoseconds()) / float64(res.N)
			if i%2 == 0 { // each after the bare hash that it is compared with
				bare = ns
			}
			t.add(c.row, "ns", ns)
			t.add(c.row, "allocations", float64(res.AllocsPerOp()))
			t.add(c.row, "bytes", float64(res.AllocedBytesPerOp()))
			t.add(c.row, "ns / bare", ns/bare)
		}
	}
	return []*table{t}, nil
}
