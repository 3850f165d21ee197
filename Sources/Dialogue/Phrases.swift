import Files

/// What the interactive chat says, in the person's language.
package struct Phrases: Sendable {
  package enum Language: Equatable, Sendable {
    case english
    case chinese

    /// The language of messages, from the locale's environment variables (POSIX, 8.2).
    package init(environment: [String: String]) {
      let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty }
      self = locale?.lowercased().bytes.hasPrefix("zh") == true ? .chinese : .english
    }
  }
  package let language: Language

  package init(_ language: Language) { self.language = language }

  private func say(_ english: String, _ chinese: String) -> String {
    language == .chinese ? chinese : english
  }

  // MARK: Prompts

  package var user: String { say(">User: ", ">用户：") }
  package var assistant: String { say(">Assistant: ", ">助手：") }

  // MARK: Remarks

  package func welcome(model: String, capacity: Int) -> String {
    say(
      "\(model), context of \(capacity) tokens. /help lists the commands, exit ends the session.",
      "\(model)，上下文 \(capacity) 个 token。输入 /help 查看命令，exit 退出。")
  }
  package var noTemplate: String {
    say(
      "The model has no chat template: each text is continued by itself, and nothing is remembered.",
      "没有对话模板：每段文字单独续写，不保留历史。")
  }
  package var howToEnd: String { say("exit or Ctrl-D ends the session.", "输入 exit 或按 Ctrl-D 退出。") }
  package var cleared: String { say("History cleared.", "历史已清空。") }
  package func streaming(_ isOn: Bool) -> String {
    say("Streaming is \(isOn ? "on" : "off").", isOn ? "流式输出已开启。" : "流式输出已关闭。")
  }
  /// What a long prompt takes, before it is read.
  package func longPrompt(tokens: Int, known: Int, time: String, memory: String, cache: String) -> String {
    say(
      "Reading \(tokens) tokens" + (known > 0 ? " (\(known) more are known)" : "")
        + " takes about \(time); memory \(memory), of it \(cache) for keys and values. Ctrl-C stops.",
      "将读取 \(tokens) 个 token" + (known > 0 ? "（另有 \(known) 个已在缓存中）" : "")
        + "，约需 \(time)；内存 \(memory)，其中键值缓存 \(cache)。按 Ctrl-C 停止。")
  }
  package var reading: String { say("reading", "读取") }
  package func contextUsed(_ tokens: Int, _ path: String) -> String {
    say("\(path): a saved context of \(tokens) tokens.", "\(path)：已保存的上下文，\(tokens) 个 token。")
  }
  package var stopped: String { say("[stopped]", "[已停止]") }
  package var takenBack: String {
    say(
      "[stopped before the answer began; the message is withdrawn, what was read of it is kept]",
      "[回答开始前已停止：该消息已撤回，已读部分保留在缓存中]")
  }
  package func limitReached(_ tokens: Int) -> String {
    say("[limit of \(tokens) new tokens reached]", "[已达到 \(tokens) 个新 token 的上限]")
  }
  package var contextFull: String { say("[the context is full]", "[上下文已满]") }
  package func dropped(_ turns: Int) -> String {
    say(
      "[the context is full: the oldest \(turns) turns are left out from now on]",
      "[上下文已满：此后不再包含最早的 \(turns) 条消息]")
  }
  package var nothingToRegenerate: String { say("There is nothing to answer yet.", "还没有可以重新回答的问题。") }
  package var alwaysTheSame: String {
    say(
      "[the answer is always the same without sampling; start with --temperature for a different one]",
      "[未启用采样，回答总是相同；用 --temperature 启动可得到不同的回答]")
  }
  package var nothingWritten: String { say("The text is empty; nothing is sent.", "没有内容，未发送。") }

  // MARK: Commands

  package func system(_ text: String?) -> String {
    guard let text else { return say("System message: the model's own.", "系统消息：模型默认。") }
    return say("System message: ", "系统消息：") + text
  }
  package func saved(_ turns: Int, _ path: String) -> String {
    say("\(turns) turns saved to \(path).", "已将 \(turns) 条消息保存到 \(path)。")
  }
  package func loaded(_ turns: Int, _ path: String) -> String {
    say("\(turns) turns loaded from \(path).", "已从 \(path) 载入 \(turns) 条消息。")
  }
  package func firstOfSeveral(_ count: Int) -> String {
    say("The file holds \(count) conversations; this is the first.", "文件中有 \(count) 个对话，已载入第一个。")
  }
  package func exists(_ path: String) -> String {
    say("\(path) exists; choose another name.", "\(path) 已存在，请换一个文件名。")
  }
  package func incomplete(_ command: String) -> String {
    say("\(command): a file name is missing.", "\(command)：缺少文件名。")
  }
  package func unknown(_ command: String) -> String {
    say(
      "\(command) is not a command (/help lists them); // starts a message with a slash.",
      "\(command) 不是命令（输入 /help 查看）；以 // 开头可发送斜杠开头的消息。")
  }
  package func historyNotKept(_ reason: String) -> String {
    say("Lines are not kept for the next session: \(reason)", "输入历史不会保留：\(reason)")
  }

  // MARK: Help

  package var help: [(command: String, meaning: String)] {
    [
      ("clear", say("forget the conversation", "清空对话历史")),
      ("stream", say("switch between streamed and whole answers", "切换流式输出")),
      ("vim, /edit", say("write a message in $VISUAL, $EDITOR or vi", "用 $VISUAL、$EDITOR 或 vi 编写多行消息")),
      ("/regenerate", say("answer the last message again", "重新回答上一条消息")),
      (
        "/system [TEXT]",
        say("show or set the system message; - restores the default", "查看或设置系统消息；- 恢复默认")
      ),
      ("/save FILE", say("save the conversation as fine-tuning data", "保存对话（微调数据格式）")),
      ("/load FILE", say("continue a saved conversation", "载入对话并继续")),
      ("/stats", say("show speed and context use", "速度与上下文用量")),
      ("exit", say("end the session; also Ctrl-D", "退出；也可按 Ctrl-D")),
      ("Ctrl-C", say("stop an answer; at the prompt, clear the line", "停止回答；在输入时清除当前行")),
      ("Alt-Enter", say("start a new line in a message", "在消息中换行")),
    ]
  }

  // MARK: Statistics

  package var noAnswerYet: String { say("no answer yet", "还没有回答") }
  package var statisticsLabels: (answer: String, prompt: String, context: String, conversation: String) {
    language == .chinese ? ("回答", "提示", "上下文", "对话") : ("answer", "prompt", "context", "conversation")
  }
  package func answerSpeed(tokens: Int, perSecond: String) -> String {
    say("\(tokens) tokens, \(perSecond) tokens/s", "\(tokens) 个 token，\(perSecond) token/s")
  }
  package func promptSpeed(tokens: Int, reused: Int, perSecond: String) -> String {
    say(
      "\(tokens) tokens, \(reused) of them from the cache, the rest at \(perSecond) tokens/s",
      "\(tokens) 个 token，其中 \(reused) 个来自缓存，其余 \(perSecond) token/s")
  }
  package func contextUse(_ used: Int, of capacity: Int) -> String {
    let percent = (used * 100 + capacity / 2) / capacity
    return say("\(used) of \(capacity) tokens (\(percent) %)", "\(used) / \(capacity) 个 token（\(percent)%）")
  }
  package func conversationSize(turns: Int, leftOut: Int) -> String {
    say(
      "\(turns) turns" + (leftOut > 0 ? ", the oldest \(leftOut) left out of the context" : ""),
      "\(turns) 条消息" + (leftOut > 0 ? "，最早的 \(leftOut) 条不在上下文中" : ""))
  }
}
