import Testing
import Training

@Suite struct TrainingRowTests {
  /// Nothing comes before the first place, so its label never counts.
  @Test func theFirstLabelDoesNotCount() {
    #expect(TrainingRow(tokens: [5, 6, 7], labels: [5, nil, 7]).countedLabels == 1)
  }
}
