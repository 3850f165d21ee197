"""A terminal inside tmux: sends keys and reads the pane."""

import os, subprocess, tempfile, time


class Terminal:
    def __init__(self, columns=80, rows=24, environment=None):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = f"{self.folder.name}/tmux"
        # Nothing of the caller's own settings decides what is seen.
        variables = {"PATH": os.environ["PATH"], "HOME": self.folder.name, "TERM": "xterm-256color", "PS1": "$ ",
                     "LANG": "C.UTF-8", **(environment or {})}
        self.environment = variables
        self.tmux("new-session", "-d", "-x", str(columns), "-y", str(rows), "bash", "--norc", "--noprofile")
        self.tmux("set-option", "-g", "escape-time", "0")
        self.wait_for("$")

    def tmux(self, *arguments):
        command = ["tmux", "-u", "-S", self.socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def close(self):
        try:
            self.tmux("kill-server")
        except subprocess.CalledProcessError:
            pass
        self.folder.cleanup()

    def type(self, text):
        self.tmux("send-keys", "-l", "--", text)

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def paste(self, text):
        self.tmux("set-buffer", "--", text)
        self.tmux("paste-buffer", "-p")

    def resize(self, columns, rows=24):
        """tmux tells the program a moment later; this waits until it has."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))
        tty = self.tmux("display-message", "-p", "#{pane_tty}").strip()
        for _ in range(100):
            if subprocess.run(["stty", "size", "-F", tty], capture_output=True, text=True).stdout == f"{rows} {columns}\n":
                return
            time.sleep(0.02)
        raise AssertionError(f"the terminal did not become {columns} columns wide")

    def pane(self, colors=False, history=False):
        """Rows as they are seen, without what is empty below."""
        arguments = ["capture-pane", "-p"] + (["-e"] if colors else []) + (["-S", "-"] if history else [])
        return self.tmux(*arguments).rstrip("\n").split("\n")

    def cursor(self):
        return tuple(map(int, self.tmux("display-message", "-p", "#{cursor_x} #{cursor_y}").split()))

    def wait(self, condition, what, seconds=15):
        """Looks at the pane until `condition(rows)` holds. Returns the rows."""
        end = time.monotonic() + seconds
        while True:
            rows = self.pane()
            if condition(rows):
                return rows
            if time.monotonic() > end:
                raise AssertionError(f"{what}: not seen within {seconds} s; the screen:\n" + "\n".join(rows))
            time.sleep(0.02)

    def wait_for(self, text, seconds=15):
        return self.wait(lambda rows: any(text in row for row in rows), repr(text), seconds)

    def wait_for_last(self, text, seconds=15):
        """Waits until the last row is exactly `text`, and stays so for a moment."""
        self.wait(lambda rows: rows[-1].rstrip() == text, f"last row {text!r}", seconds)
        time.sleep(0.05)
        return self.wait(lambda rows: rows[-1].rstrip() == text, f"last row {text!r}", seconds)
