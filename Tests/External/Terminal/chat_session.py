"""Uses zhinao-chat in a terminal as a person would: chat_session.py MODEL [--show] [PART...]
MODEL is a small Chinese model (Sources/DemoModels/tiny-zhinao). The script needs tmux and uses .build/release. With
--show it prints the screens."""

import json, os, shutil, subprocess, sys, tempfile, time

from tmux import Terminal

root = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", ".."))
chat = f"{root}/.build/release/zhinao-chat"
arguments = [a for a in sys.argv[1:] if a != "--show"]
model, show = os.path.abspath(arguments[0]), "--show" in sys.argv
user, assistant = ">用户：", ">助手："
failures = 0
if not shutil.which("tmux"):
    sys.exit("tmux is missing: apt-get install tmux")


def expect(condition, text, terminal=None):
    global failures
    print(("ok   " if condition else "FAIL ") + text)
    failures += not condition
    if terminal and (show or not condition):
        print("\n".join("     | " + row for row in terminal.pane()))


def start(options="", columns=80, rows=24, language="zh_CN.UTF-8", terminal_name="", **environment):
    terminal = Terminal(columns, rows, {"LANG": language, **environment})
    # tmux gives the name of its own terminal to what runs inside.
    command = f"TERM={terminal_name} {chat}" if terminal_name else chat
    terminal.type(f"clear; {command} {model} {options}")
    terminal.press("Enter")
    terminal.wait_for_last(user if language.startswith("zh") else ">User:", 30)
    return terminal


def leave(terminal, code=0):
    """Ends the program and sees that it left the terminal as it was."""
    terminal.type("exit")
    terminal.press("Enter")
    finished(terminal, code)


def finished(terminal, code):
    terminal.wait_for_last("$")
    terminal.type("stty -a | grep -o ' [-]*icanon\\| [-]*echo \\| [-]*isig' | tr -d '\\n'; echo \" code $?\"")
    # The exit code of the program was that of the line before; it is asked first.
    terminal.press("C-a")
    terminal.type("was=$?; ")
    terminal.press("C-e")
    terminal.type("; echo was $was")
    terminal.press("Enter")
    rows = terminal.wait(lambda rows: any(row == f"was {code}" for row in rows), f"exit code {code}")
    settings = [row for row in rows if "icanon" in row and "stty" not in row]
    expect(settings and "-icanon" not in settings[-1] and "-echo" not in settings[-1] and "-isig" not in settings[-1],
           f"exit code {code}, the terminal is as it was", terminal)
    terminal.close()


def one_answer(prompt, *options):
    """What the command gives a script."""
    result = subprocess.run([chat, model, "--prompt", prompt, "--quiet", *options], capture_output=True, text=True, check=True)
    return result.stdout.rstrip("\n")


def wide(character):
    return 2 if ord(character) > 0x2E80 else 1


def wrapped(text, columns):
    """Rows of so many columns, no wide character split."""
    rows, used = [""], 0
    for character in text:
        if used + wide(character) > columns:
            rows.append("")
            used = 0
        rows[-1] += character
        used += wide(character)
    return rows


def unwrapped(rows):
    return "".join(rows).replace(" ", "")


def editing():
    t = start("--no-history")
    t.type("你好世界")
    t.wait_for_last(user + "你好世界")
    expect(t.cursor()[0] == 7 + 8, "Chinese input: the cursor is behind four wide characters", t)
    t.press("Left", "Left")
    t.type("，")
    t.wait_for_last(user + "你好，世界")
    expect(t.cursor()[0] == 7 + 6, "inserted in the middle", t)
    t.press("BSpace", "BSpace")
    t.wait_for_last(user + "你世界")
    expect(t.cursor()[0] == 7 + 2, "Backspace removes whole characters", t)
    t.press("DC")
    t.wait_for_last(user + "你界")
    t.press("Home")
    t.type("abc ")
    t.press("End")
    t.type(" def")
    t.wait_for_last(user + "abc 你界 def")
    expect(True, "Home, End, Delete")
    t.press("C-w")
    t.wait_for_last(user + "abc 你界")
    t.press("C-a", "Right", "C-k")
    t.wait_for_last(user + "a")
    t.press("C-y", "C-u")
    t.wait_for_last(user)
    t.press("C-y")
    t.wait_for_last(user + "abc 你界")
    expect(True, "Ctrl-A, E, K, U, W, Y", t)
    t.press("C-c")
    t.wait_for_last(user)
    expect(True, "Ctrl-C at the prompt clears the line")
    t.press("C-c")
    t.wait(lambda rows: "Ctrl-D" in rows[-2] and rows[-1].rstrip() == user, "hint")
    expect(True, "Ctrl-C on an empty line says how to end", t)
    t.paste("第一行\n第二行")
    t.wait(lambda rows: rows[-2].rstrip() == user + "第一行" and rows[-1] == "第二行", "paste")
    expect(True, "a pasted line end does not send", t)
    t.press("C-c")
    t.wait_for_last(user)
    t.type("a😀b")
    t.press("Left", "BSpace")
    t.type("e\u0301")
    t.wait_for_last(user + "ae\u0301b")
    expect(t.cursor()[0] == 7 + 2, "emoji and combining marks are one character each", t)
    t.press("C-c", "C-d")
    finished(t, 0)


def resizing():
    t = start("--no-history", columns=60, rows=20)
    text = "孔明曰亮夜观天象刘表不久人世刘璋非立业之主久后必归将军玄德闻言顿首拜谢"
    # With the screen full the line is at its bottom. Above the bottom tmux itself scrolls a part of it away when it becomes
    # narrower, so that only the line below counts there.
    for _ in range(2):
        t.type("/help")
        t.press("Enter")
        t.wait_for_last(user)
    t.type(text)
    t.wait(lambda rows: unwrapped(rows[-2:]) == user + text, "two rows")
    banner = unwrapped(t.pane(history=True))[:12]
    for columns in [40, 24, 31, 70, 100, 60]:
        t.resize(columns, 20)
        place = wrapped(user + text, columns)
        t.wait(lambda rows: rows[-len(place):] == place, f"the line in rows of {columns} columns")
        width = sum(map(wide, place[-1]))
        t.wait(lambda rows: t.cursor()[0] == width % columns, f"the cursor at {columns} columns")
        # A terminal may have scrolled up what no longer fits; nothing is lost, nothing is there twice.
        seen = unwrapped(t.pane(history=True))
        expect(seen.count("孔明") == 1 and seen.count(banner) == 1, f"{columns} columns: the line is redrawn in place", t)
    t.press("C-a")
    t.type("X")
    t.wait(lambda rows: unwrapped(rows).endswith(user + "X" + text), "edited after resizing")
    expect(True, "editing goes on after resizing", t)
    t.press("C-c")
    t.wait_for_last(user)
    leave(t)


def answers():
    folder = tempfile.mkdtemp()
    editor = f"{folder}/editor"
    with open(editor, "w") as file:
        file.write("#!/bin/sh\nstty -a | grep -q ' -icanon' && exit 3\nprintf '来自编辑器\\n第二行\\n' > \"$1\"\n")
    os.chmod(editor, 0o755)
    t = start(f"--history-file {folder}/history", rows=40, VISUAL="", EDITOR=editor)
    question = "请续写下面的文字：宝玉"
    t.type(question)
    t.press("Enter")
    t.wait_for_last(user)
    rows = t.pane()
    at = next(i for i, row in enumerate(rows) if row.startswith(assistant))
    said = unwrapped(row for row in rows[at:-1] if not row.startswith("["))[len(assistant):]
    expected = one_answer(question, "--max-new-tokens", "64", "--plain-text")
    expect(said == unwrapped(expected.split("\n")), "the answer is the one a script gets", t)
    t.type("/stats")
    t.press("Enter")
    rows = t.wait_for_last(user)
    expect(any(row.startswith("上下文") and "2048" in row for row in rows) and any("2 条消息" in row for row in rows), "/stats", t)
    t.press("C-l")
    t.wait(lambda rows: [row.rstrip() for row in rows] == [user], "Ctrl-L")
    t.type("stream")
    t.press("Enter")
    t.wait_for("流式输出已关闭")
    t.type("再写一段")
    t.press("Enter")
    t.wait_for(assistant)
    t.wait_for_last(user)
    expect(sum(row.startswith(assistant) for row in t.pane()) == 1, "stream: off, an answer comes whole", t)
    t.type("stream")
    t.press("Enter")
    t.wait_for("流式输出已开启")
    saved = f"{folder}/saved.json"
    t.type(f"/save {saved}")
    t.press("Enter")
    t.wait_for("已将 4 条消息保存")
    record = json.load(open(saved))[0]
    turns = [(turn["from"], turn["value"]) for turn in record["conversations"]]
    expect([role for role, _ in turns] == ["user", "assistant"] * 2 and turns[0][1] == question and
           unwrapped(turns[1][1].split("\n")) == said, "/save writes the conversation as fine-tuning data")
    t.type("clear")
    t.press("Enter")
    t.wait_for("历史已清空")
    t.type("/stats")
    t.press("Enter")
    t.wait_for("0 条消息")
    t.type(f"/load {saved}")
    t.press("Enter")
    t.wait_for("载入 4 条消息")
    t.wait_for_last(user)
    expect(True, "clear and /load", t)
    t.press("C-l")
    t.type("/regenerate")
    t.press("Enter")
    t.wait_for(assistant)
    t.wait_for_last(user)
    t.type("/system 你是一个诗人。")
    t.press("Enter")
    t.wait_for("系统消息：你是一个诗人。")
    t.wait_for_last(user)
    expect(True, "/regenerate and /system", t)
    t.press("C-l")
    t.type("vim")
    t.press("Enter")
    t.wait_for("第二行")
    t.wait_for(assistant)
    t.wait_for_last(user)
    t.type(f"/save {saved}")
    t.press("Enter")
    t.wait_for("保存")
    values = [turn["value"] for turn in json.load(open(saved))[0]["conversations"]]
    expect(values[0] == "你是一个诗人。" and values[-2] == "来自编辑器\n第二行" and len(values) == 7,
           "vim: two lines from the editor, which found an ordinary terminal", t)
    t.type(f"/save {folder}/history")
    t.press("Enter")
    t.wait_for("已存在")
    t.type("/nonsense")
    t.press("Enter")
    t.wait_for("不是命令")
    expect(True, "a file of others is not overwritten, an unknown command is named", t)
    t.press("C-l")
    t.press("Up", "Up", "Up")
    t.wait_for_last(user + f"/save {saved}")
    t.press("C-c")
    t.wait_for_last(user)
    leave(t)
    t = start(f"--history-file {folder}/history")
    t.press("Up", "Up")
    t.wait_for_last(user + "/nonsense")
    expect(os.stat(f"{folder}/history").st_mode & 0o777 == 0o600, "the next session finds the lines of this one", t)
    t.press("C-c")
    leave(t)
    shutil.rmtree(folder)


def begin_an_answer(t, prompt):
    """Asks until an answer has some text: at temperature 2 its first token may be the one that ends it. A long one may have
    left the screen between two looks at it, with the question."""
    for attempt in range(5):
        t.type(prompt)
        t.wait_for_last(user + prompt)
        t.press("Enter")
        begun = lambda rows: not any(row.startswith(user + prompt) for row in rows) or any(
            row.startswith(assistant) and len(row) > len(assistant) + 4 for row in rows)
        empty = lambda rows: rows[-1].rstrip() == user and any(row.rstrip() == assistant for row in rows)
        if begun(t.wait(lambda rows: begun(rows) or empty(rows), "an answer begins")):
            return
        # The command forgets the conversation and leaves the screen, where the empty answer would be seen again.
        t.type("clear")
        t.press("Enter")
        t.wait_for("历史已清空")
        t.press("C-l")
        t.wait(lambda rows: rows[-1].rstrip() == user and not empty(rows), "the screen is cleared")
    raise AssertionError("five answers were empty")


def interrupting():
    # A loop of text that only a limit ends, so that there is time to stop it.
    t = start("--no-history --temperature 2 --max-new-tokens 1900 --threads 1")
    for attempt in range(5):
        begin_an_answer(t, "请续写下面的文字：黛玉")
        t.press("C-c")
        rows = t.wait_for_last(user)
        if "[已停止]" in rows[-2]:
            break
        t.type("clear")
        t.press("Enter")
        t.wait_for_last(user)
    expect("[已停止]" in rows[-2], "Ctrl-C stops the answer, not the program", t)
    t.type("/stats")
    t.press("Enter")
    rows = t.wait_for("2 条消息")
    expect(True, "what was said so far is kept", t)
    # Keys pressed while an answer is made are not seen among its text; they wait for the prompt.
    t.press("C-l")
    begin_an_answer(t, "请续写下面的文字：探春")
    # Stopped and continued, the answer goes on.
    t.press("C-z")
    t.wait_for_last("$")
    t.type("fg")
    t.press("Enter")
    t.wait(lambda rows: not any(row == "$" for row in rows), "the answer goes on")
    t.type("先打的字")
    rows = t.wait(lambda rows: rows[-1].rstrip() == user + "先打的字", "what was typed ahead", 30)
    expect(sum("先打的字" in row for row in rows) == 1, "what is typed during an answer waits for the prompt", t)
    t.press("C-z")
    t.wait_for_last("$")
    t.type("fg")
    t.press("Enter")
    t.wait(lambda rows: any(row == "$ fg" for row in rows) and rows[-1].rstrip() == user + "先打的字", "the line after fg")
    time.sleep(0.2)
    rows = t.pane()
    # Below the last "fg": the one typed during the answer is still on the screen when the answer was short.
    rows = rows[len(rows) - 1 - rows[::-1].index("$ fg"):]
    expect(sum("先打的字" in row for row in rows) == 1, "Ctrl-Z and fg at the prompt", t)
    t.press("C-c")
    t.wait_for_last(user)
    # Ended from outside, the terminal is still put right.
    pid = subprocess.run(["pgrep", "-P", t.tmux("display-message", "-p", "#{pane_pid}").strip()], capture_output=True,
                         text=True).stdout.split()[0]
    os.kill(int(pid), 15)
    finished(t, 130)


def english():
    t = start("--no-history --context-size 160 --max-new-tokens 40", language="en_US.UTF-8", rows=40)
    expect(any("\033[" in row and ">User" in row for row in t.pane(colors=True)), "English prompts, in colour", t)
    for turn in range(4):
        t.type("Please go on: the Emperor and his court.")
        t.press("Enter")
        t.wait(lambda rows: rows[-1].rstrip() == ">User:" and sum(r.startswith(">Assistant:") for r in rows) > turn, "answer")
    expect(any("oldest" in row and "left out" in row for row in t.pane()), "a full context drops the oldest turns and says so", t)
    leave(t)
    t = start("--no-history", language="en_US.UTF-8", NO_COLOR="1")
    t.type("/help")
    t.press("Enter")
    t.wait_for("/regenerate")
    t.wait_for_last(">User:")
    expect(not any("\033[" in row for row in t.pane(colors=True)), "NO_COLOR: none", t)
    leave(t)
    t = start("--no-history", language="en_US.UTF-8", terminal_name="dumb")
    t.type("/systemm")
    t.press("BSpace", "Enter")
    t.wait_for("the model's own")
    t.wait_for_last(">User:")
    expect(not any("\033[" in row for row in t.pane(colors=True)), "a dumb terminal: the system edits lines", t)
    t.press("C-d")
    finished(t, 0)


parts = {f.__name__: f for f in (editing, resizing, answers, interrupting, english)}
begin = time.monotonic()
for name in arguments[1:] or parts:
    print(f"-- {name}")
    parts[name]()
print(f"{time.monotonic() - begin:.0f} s")
sys.exit(1 if failures else 0)
