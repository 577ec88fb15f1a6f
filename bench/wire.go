package main

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// wireConn is a kept connection on which HTTP/1.1 is written and read by hand: what is left when net/http is taken away.
type wireConn struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	mac  hash.Hash
}

func dialWire(address string) (*wireConn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return newWireConn(conn), nil
}

func newWireConn(conn net.Conn) *wireConn {
	return &wireConn{conn: conn, in: bufio.NewReaderSize(conn, 4<<10), mac: hmac.New(sha256.New, []byte(benchSecret))}
}

// post sends one signed request and reads its answer, which must say how long it is.
func (c *wireConn) post(path string, body []byte) (status int, err error) {
	c.mac.Reset()
	c.mac.Write(body)
	b := append(c.out[:0], "POST "...)
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nAPI-Version: 2026-01-30\r\nTimestamp: "...)
	b = strconv.AppendInt(b, time.Now().Unix(), 10)
	b = append(b, "\r\nSignature: "...)
	b = hex.AppendEncode(b, c.mac.Sum(nil))
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	b = append(b, body...)
	c.out = b
	if err := c.conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(b); err != nil {
		return 0, err
	}
	return c.answer()
}

func (c *wireConn) answer() (status int, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, fmt.Errorf("answer begins with %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length := 0
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > len(lengthHeader) && bytes.EqualFold(line[:len(lengthHeader)], lengthHeader) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthHeader):])))
		}
	}
	_, err = io.CopyN(io.Discard, c.in, int64(length))
	return status, err
}

// postWire posts bodies over so many connections. Any status but 200 is an error.
func postWire(url string, bodies [][]byte, connections int) error {
	address, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	free := make(chan *wireConn, connections)
	for range connections {
		c, err := dialWire(address)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		free <- c
	}
	return sendMany(0, len(bodies), connections, func(i int) error {
		c := <-free
		defer func() { free <- c }()
		status, err := c.post("/"+path, bodies[i])
		if err == nil && status != 200 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}
