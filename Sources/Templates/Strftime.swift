/// `strftime` in the C locale, as glibc formats.
extension TemplateClock {
  func formatted(_ format: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    var index = 0
    while index < format.count {
      guard format[index] == Byte.percent else {
        result.append(format[index])
        index += 1
        continue
      }
      var end = index + 1
      var flag: UInt8?
      while end < format.count, "-_0^#".utf8.contains(format[end]) {
        flag = format[end]
        end += 1
      }
      if end < format.count, format[end] < 0x80,
        let text = formatted(directive: Unicode.Scalar(format[end]), flag: flag.map { Unicode.Scalar($0) })
      {
        result.append(contentsOf: text.utf8)
        index = end + 1
      } else {
        result.append(Byte.percent)
        index += 1
      }
    }
    return result
  }

  private func formatted(directive: Unicode.Scalar, flag: Unicode.Scalar?) -> String? {
    func padded(_ value: Int, _ width: Int, _ pad: Character = "0") -> String {
      let character: Character? = flag == "-" ? nil : flag == "_" ? " " : flag == "0" ? "0" : pad
      let digits = String(value)
      guard let character else { return digits }
      return String(repeating: character, count: max(0, width - digits.utf8.count)) + digits
    }
    func cased(_ text: String) -> String { flag == "^" || flag == "#" ? text.uppercased() : text }
    let hour12 = (hour + 11) % 12 + 1
    switch directive {
    case "a": return cased(String(Self.weekdays[weekday].prefix(3)))
    case "A": return cased(Self.weekdays[weekday])
    case "b", "h": return cased(String(monthName.prefix(3)))
    case "B": return cased(monthName)
    case "c": return text("%a %b %e %H:%M:%S %Y")
    case "C": return padded(year / 100, 2)
    case "d": return padded(day, 2)
    case "D", "x": return text("%m/%d/%y")
    case "e": return padded(day, 2, " ")
    case "f": return "000000"
    case "F": return text("%Y-%m-%d")
    case "g": return padded(isoWeek.year % 100, 2)
    case "G": return padded(isoWeek.year, 4)
    case "H": return padded(hour, 2)
    case "I": return padded(hour12, 2)
    case "j": return padded(dayOfYear, 3)
    case "k": return padded(hour, 2, " ")
    case "l": return padded(hour12, 2, " ")
    case "m": return padded(month, 2)
    case "M": return padded(minute, 2)
    case "n": return "\n"
    case "p": return flag == "#" ? (hour < 12 ? "am" : "pm") : (hour < 12 ? "AM" : "PM")
    case "P": return hour < 12 ? "am" : "pm"
    case "r": return text("%I:%M:%S %p")
    case "R": return text("%H:%M")
    case "S": return padded(second, 2)
    case "t": return "\t"
    case "T", "X": return text("%H:%M:%S")
    case "u": return String(weekday == 0 ? 7 : weekday)
    case "U": return padded((dayOfYear + 6 - weekday) / 7, 2)
    case "V": return padded(isoWeek.week, 2)
    case "w": return String(weekday)
    case "W": return padded((dayOfYear + 6 - (weekday + 6) % 7) / 7, 2)
    case "y": return padded(year % 100, 2)
    case "Y": return String(year)
    case "z", "Z": return ""
    case "%": return "%"
    default: return nil
    }
  }

  private func text(_ format: String) -> String {
    String(decoding: formatted(Array(format.utf8)), as: UTF8.self)
  }

  // MARK: The calendar

  private static let weekdays = [
    "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
  ]
  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November",
    "December",
  ]

  private var monthName: String { Self.months[min(max(month, 1), 12) - 1] }

  private static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

  /// The day of the year, from 1.
  private var dayOfYear: Int {
    let starts = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334]
    return starts[min(max(month, 1), 12) - 1] + day + (month > 2 && Self.isLeap(year) ? 1 : 0)
  }

  /// The day of the week, from 0 for Sunday.
  private var weekday: Int {
    let before = year - 1
    return (before + before / 4 - before / 100 + before / 400 + dayOfYear) % 7
  }

  /// The week by ISO 8601: weeks begin on Mondays, and the first one holds the year's first Thursday.
  private var isoWeek: (year: Int, week: Int) {
    func weeks(_ year: Int) -> Int {
      let first = TemplateClock(year: year, month: 1, day: 1).weekday
      return first == 4 || first == 3 && Self.isLeap(year) ? 53 : 52
    }
    let week = (dayOfYear - (weekday + 6) % 7 + 9) / 7
    if week < 1 { return (year - 1, weeks(year - 1)) }
    return week > weeks(year) ? (year + 1, 1) : (year, week)
  }
}
