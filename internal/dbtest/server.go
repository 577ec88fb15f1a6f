package dbtest

import (
	"cmp"
	"context"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// Stop ends the server cleanly, as an operator would. Connections break, nothing is lost.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.mustOwn(t)
	if s.kind == PostgreSQL {
		s.proc.end("INT") // "fast": a plain TERM waits for the clients
		return
	}
	s.proc.end("TERM")
}

// Kill ends the server and all of its processes with SIGKILL.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.mustOwn(t)
	s.proc.end("KILL")
}

// Start starts a server that was stopped or killed, on the same data and the same DSNs, and waits until it answers.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.mustOwn(t)
	if err := s.proc.start(); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) mustOwn(t testing.TB) {
	t.Helper()
	if s.proc == nil {
		t.Fatal("dbtest: this server is not ours to stop; use Start for one that is")
	}
}

func (s *Server) remove() { s.proc.remove() }

func start(kind Kind, o Options) (*Server, error) {
	s := &Server{kind: kind}
	prepare := s.preparePostgres
	if kind == MySQL {
		prepare = s.prepareMariaDB
	}
	if err := prepare(o); err != nil {
		if s.proc != nil {
			s.proc.remove()
		}
		return nil, err
	}
	s.proc.ping = s.ping
	if err := s.proc.start(); err != nil {
		s.proc.remove()
		return nil, err
	}
	return s, nil
}

func (s *Server) ping() error {
	db, err := sql.Open(s.driver(), s.admin)
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return db.PingContext(ctx)
}

func (s *Server) preparePostgres(o Options) error {
	bin, err := postgresBin()
	if err != nil {
		return err
	}
	if s.proc, err = newProcess(o, "postgres"); err != nil {
		return err
	}
	dir := s.proc.dir
	data := filepath.Join(dir, "data")
	err = s.proc.run(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync",
		"--no-instructions", "--locale=C", "-E", "UTF8")
	if err != nil {
		return err
	}
	s.proc.abort = "QUIT" // KILL would leave its shared memory behind
	s.proc.args = []string{filepath.Join(bin, "postgres"), "-D", data, "-c", "dynamic_shared_memory_type=mmap",
		"-c", "listen_addresses=", "-c", "unix_socket_directories=" + dir,
		"-c", "max_connections=200", "-c", "shared_buffers=256MB", "-c", "max_wal_size=2GB"}
	if !o.Durable {
		s.proc.args = append(s.proc.args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	s.admin = "host=" + dir + " user=postgres dbname=postgres sslmode=disable"
	return nil
}

// postgresBin finds the folder with initdb and postgres, which Debian keeps off PATH.
func postgresBin() (string, error) {
	var dirs []string
	if dir := os.Getenv("WEBHOOK_PG_BIN"); dir != "" {
		dirs = append(dirs, dir)
	} else {
		if path, err := exec.LookPath("initdb"); err == nil {
			if path, err = filepath.EvalSymlinks(path); err == nil {
				dirs = append(dirs, filepath.Dir(path))
			}
		}
		debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		slices.SortFunc(debian, func(a, b string) int { // the newest first; 9.6 is older than 15
			return cmpVersion(filepath.Base(filepath.Dir(b)), filepath.Base(filepath.Dir(a)))
		})
		dirs = append(dirs, debian...)
	}
	for _, dir := range dirs {
		if isFile(filepath.Join(dir, "initdb")) && isFile(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", &missingError{"PostgreSQL", "WEBHOOK_TEST_POSTGRES_DSN or WEBHOOK_PG_BIN", "postgresql"}
}

func (s *Server) prepareMariaDB(o Options) error {
	server := findFile("mariadbd", "/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd", "/usr/local/bin/mariadbd")
	install := findFile("mariadb-install-db", "/usr/bin/mariadb-install-db", "/usr/local/bin/mariadb-install-db")
	if server == "" || install == "" {
		return &missingError{"MariaDB", "WEBHOOK_TEST_MYSQL_DSN", "mariadb-server"}
	}
	var err error
	if s.proc, err = newProcess(o, "mysql"); err != nil {
		return err
	}
	dir := s.proc.dir
	data := filepath.Join(dir, "data")
	err = s.proc.run(install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=64M")
	if err != nil {
		return err
	}
	s.proc.abort = "KILL"
	s.proc.args = []string{server, "--no-defaults", "--datadir=" + data, "--socket=" + filepath.Join(dir, "s"),
		"--pid-file=" + filepath.Join(dir, "pid"), "--skip-networking", "--skip-log-bin", "--max-connections=300",
		"--innodb-log-file-size=64M", "--innodb-buffer-pool-size=512M"}
	if !o.Durable {
		s.proc.args = append(s.proc.args, "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0",
			"--innodb-flush-method=nosync")
	}
	s.admin = "root@unix(" + filepath.Join(dir, "s") + ")/mysql?parseTime=true&loc=UTC&time_zone=%27%2B00%3A00%27" +
		"&interpolateParams=true"
	return nil
}

// findFile is a program by PATH, or the first of paths that exists.
func findFile(name string, paths ...string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if i := slices.IndexFunc(paths, isFile); i >= 0 {
		return paths[i]
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// cmpVersion compares version numbers as "9.6" and "15".
func cmpVersion(a, b string) int {
	x, _ := strconv.ParseFloat(a, 64)
	y, _ := strconv.ParseFloat(b, 64)
	return cmp.Compare(x, y)
}
