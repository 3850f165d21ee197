import Compute
import Evaluation
import Files

/// The needles of the 360Zhinao project's tests, word for word (`360k/niah/*.py`).
package enum NeedleKind: String, CaseIterable, Sendable {
  /// A sentence about San Francisco in English essays.
  case english = "en"
  /// Three paragraphs about a shop in Chinese novels.
  case chinese = "zh"
  /// A city's magic number in English.
  case valueEnglish = "value-en"
  /// A city's magic number in Chinese.
  case valueChinese = "value-zh"

  package var taskName: String { "needle-\(rawValue)" }

  /// Whether the text around the needle is Chinese.
  package var isChinese: Bool { self == .chinese || self == .valueChinese }
  package var hasValue: Bool { self == .valueEnglish || self == .valueChinese }

  /// The needle of one cell.
  package func needle(_ value: NeedleValue) -> String {
    switch self {
    case .english:
      "\nThe best thing to do in San Francisco is eat a sandwich and sit in Dolores Park on a sunny day.\n"
    case .chinese:
      "\n王莽是一名勤奋的店员，他每天凌晨就起床，赶在第一缕阳光照亮大地之前到达店铺，为即将开始的一天做准备。他清扫店铺，整理货架，为顾客提供方便。他对五金的种类和用途了如指掌，无论顾客需要什么，他总能准确地找到。\n"
        + "然而，他的老板刘秀却总是对他吹毛求疵。刘秀是个挑剔的人，他总能在王莽的工作中找出一些小错误，然后以此为由扣他的工资。他对王莽的工作要求非常严格，甚至有些过分。即使王莽做得再好，刘秀也总能找出一些小问题，让王莽感到非常沮丧。\n"
        + "王莽虽然对此感到不满，但他并没有放弃。他知道，只有通过自己的努力，才能获得更好的生活。他坚持每天早起，尽管他知道那天可能会再次被刘秀扣工资。他始终保持微笑，尽管他知道刘秀可能会再次对他挑剔。\n"
    case .valueEnglish: "\nThe special magic \(value.city) number is: \(value.number)\n"
    case .valueChinese: "\n\(value.city)特有的魔法数字是：\(value.number)。\n"
    }
  }

  package func question(_ value: NeedleValue) -> String {
    switch self {
    case .english: "What is the best thing to do in San Francisco?"
    case .chinese: "王莽在谁的手下工作？"
    case .valueEnglish: "What is the special magic \(value.city) number?"
    case .valueChinese: "\(value.city)特有的魔法数字是多少？"
    }
  }

  package var instruction: String {
    switch self {
    case .english: "Don't give information outside the document or repeat your findings"
    case .chinese: "仅基于上述文档，不要给出上述文档以外的信息。"
    case .valueEnglish:
      "Don't give information outside the document or repeat your findings. Keep your response short and direct."
    case .valueChinese: "仅基于上述文档，不要给出上述文档以外的信息。简明扼要地回答。"
    }
  }

  /// The needle is put after one of the ids of this text, encoded at once.
  package var periods: String { self == .english ? "." : ".，。？" }
  /// Ids that the needle moves back at most to find one; nil: to the start of the text.
  package var longestMove: Int? { self == .english ? nil : 100 }
}

/// What a value needle hides: a city and its number.
package struct NeedleValue: Equatable, Sendable {
  package var city: String
  /// Seven digits.
  package var number: String

  package init(city: String, number: String) {
    self.city = city
    self.number = number
  }

  /// The value of a cell. The vendor draws cities from a Python set, whose order changes from run to run; here cities come in
  /// the order of the vendor's list, and cell and seed alone decide.
  package init(_ kind: NeedleKind, cell: Int, seed: UInt64) {
    let cities = kind.isChinese ? NeedleValue.chineseCities : NeedleValue.englishCities
    var sequence = SplitMix64Sequence(seed: seed &+ UInt64(cell) &* 0x9E37_79B9_7F4A_7C15)
    city = cities[Int(sequence.next() % UInt64(cities.count))]
    number = "\(1_000_000 + sequence.next() % 9_000_000)"
  }

  /// The cities of `value_retrieval_niah.py`, each once, in the order of their first appearance.
  private static let englishCities = [
    "Chicago", "Yangon", "Antananarivo", "Colombo", "Almaty", "Sydney", "Mexico City", "Seattle", "Lagos",
    "Amsterdam", "Belgrade", "Cairo", "Baghdad", "Damascus", "Kigali", "Dakar", "Sofia", "Victoria",
    "Tashkent",
    "Mumbai", "Barcelona", "Amman", "Toronto", "Bratislava", "Johannesburg", "Thimphu", "Bangkok", "Santiago",
    "San Francisco", "Paris", "Rabat", "Copenhagen", "Madrid", "Ho Chi Minh City", "Sarajevo", "Delhi",
    "Istanbul",
    "Khartoum", "Helsinki", "Doha", "Kuala Lumpur", "Budapest", "Shanghai", "Moscow", "Los Angeles", "Oslo",
    "Berlin",
    "Bangalore", "Tokyo", "Melbourne", "Port Louis", "Lisbon", "Nairobi", "Kampala", "Lima", "Maputo",
    "Vancouver",
    "Dubai", "Jakarta", "Yerevan", "Beirut", "Athens", "Bucharest", "Brussels", "Tunis", "Astana", "Seoul",
    "Buenos Aires", "Vienna",
  ]
  private static let chineseCities = [
    "芝加哥", "仰光", "安塔那那利佛", "科伦坡", "阿拉木图", "悉尼", "墨西哥城", "西雅图", "拉各斯", "阿姆斯特丹", "贝尔格莱德", "开罗", "巴格达",
    "大马士革", "基加利", "达喀尔", "索非亚", "维多利亚", "塔什干", "孟买", "巴塞罗那", "安曼", "多伦多", "布拉迪斯拉发", "约翰内斯堡", "廷布", "曼谷",
    "圣地亚哥", "旧金山", "巴黎", "拉巴特", "哥本哈根", "马德里", "胡志明市", "萨拉热窝", "德里", "伊斯坦布尔", "喀土穆", "赫尔辛基", "多哈", "吉隆坡",
    "布达佩斯", "上海", "莫斯科", "洛杉矶", "奥斯陆", "柏林", "班加罗尔", "东京", "墨尔本", "路易港", "里斯本", "内罗毕", "坎帕拉", "利马", "马普托",
    "温哥华", "迪拜", "雅加达", "埃里温", "贝鲁特", "雅典", "布加勒斯特", "布鲁塞尔", "突尼斯", "阿斯塔纳", "首尔", "布宜诺斯艾利斯", "维也纳",
  ]
}
