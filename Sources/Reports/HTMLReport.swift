extension Report {
  /// One self-contained HTML file. (Under construction.)
  package var html: String { "<!DOCTYPE html>\n" }
}
