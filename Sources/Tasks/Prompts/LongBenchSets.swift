import Evaluation

/// The 21 sets of LongBench (Bai et al. 2024) with what its `pred.py` and `eval.py` do for each.
///
/// Prompts and lengths are `config/dataset2prompt.json` and `config/dataset2maxlen.json` of THUDM/LongBench at 2e00731 (MIT License, copyright
/// THUDM), byte for byte, with their misspellings: another text would be another task.
package struct LongBenchSet: Sendable {
  package let name: String
  /// The category in LongBench's paper.
  package let group: String
  package let isChinese: Bool
  package let prompt: String
  package let maximumNewTokens: Int
  let metric: AnswerMetric

  /// Chat models are asked these as plain text.
  package var usesChatTemplate: Bool {
    !["trec", "triviaqa", "samsum", "lsht", "lcc", "repobench-p"].contains(name)
  }
  /// Only the first line of the answer counts, after line feeds at its beginning.
  package var firstLineOnly: Bool { ["trec", "triviaqa", "samsum", "lsht"].contains(name) }
  /// Generation also ends here.
  package var stops: [String] { name == "samsum" ? ["\n"] : [] }

  package static func named(_ name: String) -> LongBenchSet? { all.first { $0.name == name } }

  package static let all: [LongBenchSet] = [
    LongBenchSet(
      name: "narrativeqa", group: "Single-document QA", isChinese: false,
      prompt:
        "You are given a story, which can be either a novel or a movie script, and a question. "
        + "Answer the question asconcisely as you can, using a single phrase if possible. Do not "
        + "provide any explanation.\n"
        + "\nStory: {context}\n\n"
        + "Now, answer the question based on the story asconcisely as you can, using a single "
        + "phrase if possible. Do not provide any explanation.\n"
        + "\nQuestion: {input}\n\nAnswer:",
      maximumNewTokens: 128, metric: .f1),
    LongBenchSet(
      name: "qasper", group: "Single-document QA", isChinese: false,
      prompt:
        "You are given a scientific article and a question. Answer the question as concisely as "
        + "you can, using a single phrase or sentence if possible. If the question cannot be "
        + "answered based on the information in the article, write \"unanswerable\". If the question "
        + "is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do not provide any "
        + "explanation.\n"
        + "\nArticle: {context}\n\n"
        + " Answer the question based on the above article as concisely as you can, using a single "
        + "phrase or sentence if possible. If the question cannot be answered based on the "
        + "information in the article, write \"unanswerable\". If the question is a yes/no question, "
        + "answer \"yes\", \"no\", or \"unanswerable\". Do not provide any explanation.\n"
        + "\nQuestion: {input}\n\nAnswer:",
      maximumNewTokens: 128, metric: .f1),
    LongBenchSet(
      name: "multifieldqa_en", group: "Single-document QA", isChinese: false,
      prompt:
        "Read the following text and answer briefly.\n\n{context}\n\n"
        + "Now, answer the following question based on the above text, only give me the answer and "
        + "do not output any other words.\n"
        + "\nQuestion: {input}\nAnswer:",
      maximumNewTokens: 64, metric: .f1),
    LongBenchSet(
      name: "multifieldqa_zh", group: "Single-document QA", isChinese: true,
      prompt:
        "阅读以下文字并用中文简短回答：\n\n{context}\n\n"
        + "现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n问题：{input}\n回答：",
      maximumNewTokens: 64, metric: .f1PerCharacter),
    LongBenchSet(
      name: "hotpotqa", group: "Multi-document QA", isChinese: false,
      prompt:
        "Answer the question based on the given passages. Only give me the answer and do not "
        + "output any other words.\n"
        + "\nThe following are given passages.\n{context}\n\n"
        + "Answer the question based on the given passages. Only give me the answer and do not "
        + "output any other words.\n"
        + "\nQuestion: {input}\nAnswer:",
      maximumNewTokens: 32, metric: .f1),
    LongBenchSet(
      name: "2wikimqa", group: "Multi-document QA", isChinese: false,
      prompt:
        "Answer the question based on the given passages. Only give me the answer and do not "
        + "output any other words.\n"
        + "\nThe following are given passages.\n{context}\n\n"
        + "Answer the question based on the given passages. Only give me the answer and do not "
        + "output any other words.\n"
        + "\nQuestion: {input}\nAnswer:",
      maximumNewTokens: 32, metric: .f1),
    LongBenchSet(
      name: "musique", group: "Multi-document QA", isChinese: false,
      prompt:
        "Answer the question based on the given passages. Only give me the answer and do not "
        + "output any other words.\n"
        + "\nThe following are given passages.\n{context}\n\n"
        + "Answer the question based on the given passages. Only give me the answer and do not "
        + "output any other words.\n"
        + "\nQuestion: {input}\nAnswer:",
      maximumNewTokens: 32, metric: .f1),
    LongBenchSet(
      name: "dureader", group: "Multi-document QA", isChinese: true,
      prompt:
        "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n问题：{input}\n"
        + "回答：",
      maximumNewTokens: 128, metric: .rougeLPerCharacter),
    LongBenchSet(
      name: "gov_report", group: "Summarization", isChinese: false,
      prompt:
        "You are given a report by a government agency. Write a one-page summary of the report.\n"
        + "\nReport:\n{context}\n\n"
        + "Now, write a one-page summary of the report.\n\nSummary:",
      maximumNewTokens: 512, metric: .rougeL),
    LongBenchSet(
      name: "qmsum", group: "Summarization", isChinese: false,
      prompt:
        "You are given a meeting transcript and a query containing a question or instruction. "
        + "Answer the query in one or more sentences.\n"
        + "\nTranscript:\n{context}\n\n"
        + "Now, answer the query based on the above meeting transcript in one or more sentences.\n"
        + "\nQuery: {input}\nAnswer:",
      maximumNewTokens: 512, metric: .rougeL),
    LongBenchSet(
      name: "multi_news", group: "Summarization", isChinese: false,
      prompt:
        "You are given several news passages. Write a one-page summary of all news. \n"
        + "\nNews:\n{context}\n\n"
        + "Now, write a one-page summary of all the news.\n\nSummary:",
      maximumNewTokens: 512, metric: .rougeL),
    LongBenchSet(
      name: "vcsum", group: "Summarization", isChinese: true,
      prompt:
        "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n会议总结：",
      maximumNewTokens: 512, metric: .rougeLPerCharacter),
    LongBenchSet(
      name: "trec", group: "Few-shot learning", isChinese: false,
      prompt:
        "Please determine the type of the question below. Here are some examples of questions.\n"
        + "\n{context}\n{input}",
      maximumNewTokens: 64, metric: .classification),
    LongBenchSet(
      name: "triviaqa", group: "Few-shot learning", isChinese: false,
      prompt:
        "Answer the question based on the given passage. Only give me the answer and do not "
        + "output any other words. The following are some examples.\n"
        + "\n{context}\n\n{input}",
      maximumNewTokens: 32, metric: .f1),
    LongBenchSet(
      name: "samsum", group: "Few-shot learning", isChinese: false,
      prompt:
        "Summarize the dialogue into a few short sentences. The following are some examples.\n"
        + "\n{context}\n\n{input}",
      maximumNewTokens: 128, metric: .rougeL),
    LongBenchSet(
      name: "lsht", group: "Few-shot learning", isChinese: true,
      prompt:
        "请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}",
      maximumNewTokens: 64, metric: .classification),
    LongBenchSet(
      name: "passage_count", group: "Synthetic tasks", isChinese: false,
      prompt:
        "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. "
        + "Please carefully read these paragraphs and determine how many unique paragraphs there "
        + "are after removing duplicates. In other words, how many non-repeating paragraphs are "
        + "there in total?\n"
        + "\n{context}\n\n"
        + "Please enter the final count of unique paragraphs after removing duplicates. The output "
        + "format should only contain the number, such as 1, 2, 3, and so on.\n"
        + "\nThe final answer is: ",
      maximumNewTokens: 32, metric: .count),
    LongBenchSet(
      name: "passage_retrieval_en", group: "Synthetic tasks", isChinese: false,
      prompt:
        "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which "
        + "paragraph the abstract is from.\n"
        + "\n{context}\n\nThe following is an abstract.\n\n{input}\n\n"
        + "Please enter the number of the paragraph that the abstract is from. The answer format "
        + "must be like \"Paragraph 1\", \"Paragraph 2\", etc.\n"
        + "\nThe answer is: ",
      maximumNewTokens: 32, metric: .retrieval),
    LongBenchSet(
      name: "passage_retrieval_zh", group: "Synthetic tasks", isChinese: true,
      prompt:
        "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n下面是一个摘要\n\n"
        + "{input}\n\n请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n答案是：",
      maximumNewTokens: 32, metric: .chineseRetrieval),
    LongBenchSet(
      name: "lcc", group: "Code completion", isChinese: false,
      prompt:
        "Please complete the code given below. \n"
        + "{context}Next line of code:\n",
      maximumNewTokens: 64, metric: .codeSimilarity),
    LongBenchSet(
      name: "repobench-p", group: "Code completion", isChinese: false,
      prompt:
        "Please complete the code given below. \n"
        + "{context}{input}Next line of code:\n",
      maximumNewTokens: 64, metric: .codeSimilarity),
  ]
}
