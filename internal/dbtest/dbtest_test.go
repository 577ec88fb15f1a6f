package dbtest

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play other parts, when it is started by a test of its own.
func TestMain(m *testing.M) {
	if part := os.Getenv("DBTEST_PART"); part != "" {
		play(part)
		return
	}
	os.Exit(m.Run())
}

func play(part string) {
	if err := parts[part](); err != nil {
		fmt.Println("ERROR:", err)
		os.Exit(1)
	}
}

var parts = map[string]func() error{
	"server":  serverPart,
	"migrate": migratePart,
	"work":    workPart,
	"order":   orderPart,
	"receive": servePart,
	"health":  healthPart,
	"life":    lifePart,

	"handletx": handleTxPart,
	"inbox":    inboxPart,
}

// serverPart starts both servers, says where they are, and hangs until it is killed.
func serverPart() error {
	for _, kind := range []Kind{PostgreSQL, MySQL} {
		s, err := start(kind, Options{})
		if err != nil {
			return err
		}
		fmt.Println(s.proc.pid, s.proc.dir)
	}
	select {}
}

// helper starts this test binary anew in a part.
func helper(t *testing.T, part string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), append(env, "DBTEST_PART="+part)...)
	return cmd
}

func TestServersEndWithAKilledTestBinary(t *testing.T) {
	Postgres(t) // or skip
	MariaDB(t)
	cmd := helper(t, "server")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 2 {
		if !lines.Scan() || strings.HasPrefix(lines.Text(), "ERROR") {
			t.Fatalf("helper said %q", lines.Text())
		}
		var pid int
		var dir string
		if _, err := fmt.Sscan(lines.Text(), &pid, &dir); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("server %d does not run: %v", pid, err)
		}
		defer awaitGone(t, pid, dir)
	}
	cmd.Process.Kill()
	cmd.Wait()
}

func awaitGone(t *testing.T, pid int, dir string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(dir)
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && os.IsNotExist(err) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("10 s after the test binary was killed, server %d or its folder %s still exists", pid, dir)
			return
		}
	}
}

func TestRunsAsAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is one already")
	}
	Postgres(t)
	MariaDB(t)
	cmd := helper(t, "server", "TMPDIR=/tmp", "HOME=/nonexistent")
	exe, err := copyTo(t, cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args[0], cmd.Dir = exe, exe, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	for range 2 {
		if !lines.Scan() || strings.HasPrefix(lines.Text(), "ERROR") {
			for lines.Scan() {
				t.Log(lines.Text())
			}
			t.Fatalf("helper said %q", lines.Text())
		}
	}
}

// copyTo copies the test binary to where any user can read it.
func copyTo(t *testing.T, path string) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "whexe")
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return dir + "/test", os.WriteFile(dir+"/test", b, 0o755)
}

func TestRestartKeepsWhatWasCommitted(t *testing.T) {
	for _, kind := range []Kind{PostgreSQL, MySQL} {
		t.Run(string(kind), func(t *testing.T) {
			s := Start(t, kind, &Options{Durable: true})
			if inMemory(s.proc.dir) {
				t.Errorf("a durable server in memory: %s", s.proc.dir)
			}
			if n := len(s.proc.dir) + len("/.s.PGSQL.5432"); n >= 104 {
				t.Errorf("the socket's path has %d bytes", n)
			}
			db := s.NewDB(t).Open(t)
			must(t, db, "CREATE TABLE t (n INT)")
			must(t, db, "INSERT INTO t VALUES (1)")
			s.Kill(t)
			if err := db.Ping(); err == nil {
				t.Fatal("a killed server answers")
			}
			s.Start(t)
			must(t, db, "INSERT INTO t VALUES (2)")
			s.Stop(t)
			s.Start(t)
			var sum int
			if err := db.QueryRow("SELECT sum(n) FROM t").Scan(&sum); err != nil || sum != 3 {
				t.Fatalf("sum = %d, %v; want 3", sum, err)
			}
		})
	}
}

func must(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	var err error
	for range 5 { // a pool finds its broken connections by using them
		if _, err = db.ExecContext(context.Background(), statement); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", statement, err)
}

func TestMissingServerIsNamed(t *testing.T) {
	t.Setenv("WEBHOOK_PG_BIN", t.TempDir())
	_, err := start(PostgreSQL, Options{})
	want := "dbtest: no PostgreSQL found: set WEBHOOK_TEST_POSTGRES_DSN or WEBHOOK_PG_BIN, or install it with: " +
		"apt-get install -y --no-install-recommends postgresql"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

func TestWithParam(t *testing.T) {
	tests := []struct{ dsn, want string }{
		{"host=/x dbname=a", "host=/x dbname=a k=v"},
		{"postgres://u@h/a", "postgres://u@h/a?k=v"},
		{"postgres://u@h/a?b=c", "postgres://u@h/a?b=c&k=v"},
		{"root@unix(/x/s)/a?b=c", "root@unix(/x/s)/a?b=c&k=v"},
		{"file:/x.db?_txlock=immediate", "file:/x.db?_txlock=immediate&k=v"},
	}
	for _, tt := range tests {
		if got := WithParam(tt.dsn, "k=v"); got != tt.want {
			t.Errorf("WithParam(%q) = %q, want %q", tt.dsn, got, tt.want)
		}
	}
}

func TestDSNNamesTheNewDatabase(t *testing.T) {
	tests := []struct {
		kind        Kind
		admin, want string
	}{
		{PostgreSQL, "host=/x dbname=postgres", "host=/x dbname=postgres dbname=new"},
		{PostgreSQL, "postgres://u:p@h:1/old?sslmode=disable", "postgres://u:p@h:1/new?sslmode=disable"},
		{MySQL, "root@unix(/x/s)/old?parseTime=true", "root@unix(/x/s)/new?parseTime=true"},
	}
	for _, tt := range tests {
		s := Server{kind: tt.kind, admin: tt.admin}
		if got := s.dsn("new"); got != tt.want {
			t.Errorf("dsn(%q) = %q, want %q", tt.admin, got, tt.want)
		}
	}
}
