package main

import (
	"bufio"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dbServer is a private database server on disk, with every commit synced. A shell watches over it: it ends the server when
// its standard input ends, which happens when this process ends, however it does.
type dbServer struct {
	dir   string
	pid   int
	shell *exec.Cmd
	in    interface{ Close() error }
	cred  *syscall.Credential
}

// idleConns is more than sends, claims and completions use at once. database/sql's default of 2 makes connections come and go.
const idleConns = 8

const watch = `
dir=$1; shift
"$@" </dev/null >>"$dir/log" 2>&1 &
pid=$!
echo $pid
read -r line
kill -s INT $pid
kill -s TERM $pid
wait $pid
cd / && rm -rf "$dir"
`

// newServer makes a folder on disk that belongs to the user to run as: root may not run a database server.
func newServer(users ...string) (*dbServer, error) {
	dir, err := os.MkdirTemp("", "whbench")
	if err != nil {
		return nil, err
	}
	s := &dbServer{dir: dir}
	if os.Geteuid() != 0 {
		return s, nil
	}
	for _, name := range append(users, "nobody") {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		return s, os.Chown(dir, uid, gid)
	}
	return nil, errors.New("a database server does not run as root, and there is no user to drop to")
}

func (s *dbServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "TMPDIR="+s.dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	return cmd
}

// start starts the server and waits until it answers.
func (s *dbServer) start(driver, dsn string, args ...string) (*sql.DB, error) {
	s.shell = s.command("/bin/sh", append([]string{"-c", watch, "watch", s.dir}, args...)...)
	in, err := s.shell.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.in = in
	out, err := s.shell.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.shell.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, err
	}
	if s.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return nil, err
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(idleConns)
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return db, nil
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return nil, fmt.Errorf("%s does not answer: %w\n%s", args[0], err, log[max(0, len(log)-2000):])
		}
	}
}

func (s *dbServer) stop() error {
	if s.shell == nil {
		return os.RemoveAll(s.dir)
	}
	s.in.Close()
	return s.shell.Wait()
}

// cpu is the processor time that the server's processes have used, those that have ended included. Linux only; else 0.
func (s *dbServer) cpu() time.Duration {
	ticks := ticksOf(s.pid, true)
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
	for _, f := range strings.Fields(string(children)) {
		if pid, err := strconv.Atoi(f); err == nil {
			ticks += ticksOf(pid, false)
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// ticksOf reads what a process has used, in hundredths of a second.
func ticksOf(pid int, withEnded bool) (ticks int64) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after) // from the third of the file on: utime is its 14th
	if len(fields) < 15 {
		return 0
	}
	fields = fields[11:15] // utime stime cutime cstime
	if !withEnded {
		fields = fields[:2]
	}
	for _, f := range fields {
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return ticks
}

// findProgram looks on PATH, then by patterns; the last match is the newest version.
func findProgram(name string, patterns ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return path, nil
		}
	}
	for _, p := range patterns {
		if found, _ := filepath.Glob(p); len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func startMariaDB() (*dbServer, *sql.DB, error) {
	program, err := findProgram("mariadbd", "/usr/sbin/mariadbd")
	if err != nil {
		return nil, nil, err
	}
	install, err := findProgram("mariadb-install-db", "/usr/bin/mariadb-install-db")
	if err != nil {
		return nil, nil, err
	}
	s, err := newServer("mysql")
	if err != nil {
		return nil, nil, err
	}
	data, socket := filepath.Join(s.dir, "data"), filepath.Join(s.dir, "socket")
	setup := s.command(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db")
	if out, err := setup.CombinedOutput(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("mariadb-install-db: %w\n%s", err, out), s.stop())
	}
	db, err := s.start("mysql", "root@unix("+socket+")/mysql?parseTime=true&interpolateParams=true&maxAllowedPacket=0",
		program, "--no-defaults", "--datadir="+data, "--socket="+socket, "--pid-file="+filepath.Join(s.dir, "pid"),
		"--skip-networking", "--skip-log-bin", "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=1G",
		"--innodb-flush-log-at-trx-commit=1", "--innodb-doublewrite=1", "--max-allowed-packet=64M")
	if err != nil {
		return nil, nil, errors.Join(err, s.stop())
	}
	return s, db, nil
}
