// Package jsonscan takes JSON apart without decoding it. Values are parts of the text, not copies.
package jsonscan

import (
	"strings"
	"unicode/utf8"
)

// Object calls each for the members of an object that [Valid] has accepted: their names, as literals with quotes, and values. It reports
// whether data is an object.
func Object(data []byte, each func(name, value []byte)) bool {
	s := scanner{data: data}
	s.space()
	if s.data[s.pos] != '{' {
		return false
	}
	s.pos++
	for s.space(); s.data[s.pos] != '}'; s.space() {
		if s.data[s.pos] == ',' {
			s.pos++
			s.space()
		}
		name := s.value()
		s.space()
		s.pos++ // ':'
		s.space()
		each(name, s.value())
	}
	return true
}

// Plain is the inside of a string literal, and whether that means itself.
func Plain(literal []byte) (inner []byte, plain bool) {
	inner = literal[1 : len(literal)-1]
	for _, c := range inner {
		if c == '\\' || c >= utf8.RuneSelf {
			return inner, false
		}
	}
	return inner, true
}

// scanner walks JSON. Once Valid has accepted it, nothing is checked again.
type scanner struct {
	data []byte
	pos  int
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// value passes one value and returns it.
func (s *scanner) value() []byte {
	start, depth := s.pos, 0
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.pos++
			continue
		case '}', ']':
			depth--
			s.pos++
		case ',', ':', ' ', '\t', '\r', '\n':
			s.pos++
			continue
		default:
			s.scalar()
		}
		if depth == 0 {
			break
		}
	}
	return s.data[start:s.pos:s.pos]
}

// str passes a string.
func (s *scanner) str() {
	s.pos++
	for s.plain(); s.data[s.pos] != '"'; s.plain() {
		s.pos += 2 // a backslash and what it escapes
	}
	s.pos++
}

// scalar passes a number, true, false or null.
func (s *scanner) scalar() {
	for s.pos < len(s.data) && strings.IndexByte(",:]} \t\r\n", s.data[s.pos]) < 0 {
		s.pos++
	}
}
