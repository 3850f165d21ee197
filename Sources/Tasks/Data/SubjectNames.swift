/// The subjects of C-Eval, CMMLU and MMLU: their names in files, their titles in prompts, and the groups that results are given by.
///
/// Names and titles: the configurations of lm-eval (`tasks/ceval`, `tasks/cmmlu`, `tasks/mmlu`) and OpenCompass, which agree. Groups:
/// OpenCompass for C-Eval and CMMLU, where a subject that it also counts as specific to China stays in the group of its field;
/// lm-eval for MMLU.
enum SubjectNames {
  struct Row {
    var name: String
    var title: String
    var group: String
  }

  /// 52 subjects.
  static let ceval: [Row] = rows(
    """
    computer_network|计算机网络|STEM
    operating_system|操作系统|STEM
    computer_architecture|计算机组成|STEM
    college_programming|大学编程|STEM
    college_physics|大学物理|STEM
    college_chemistry|大学化学|STEM
    advanced_mathematics|高等数学|STEM
    probability_and_statistics|概率统计|STEM
    discrete_mathematics|离散数学|STEM
    electrical_engineer|注册电气工程师|STEM
    metrology_engineer|注册计量师|STEM
    high_school_mathematics|高中数学|STEM
    high_school_physics|高中物理|STEM
    high_school_chemistry|高中化学|STEM
    high_school_biology|高中生物|STEM
    middle_school_mathematics|初中数学|STEM
    middle_school_biology|初中生物|STEM
    middle_school_physics|初中物理|STEM
    middle_school_chemistry|初中化学|STEM
    veterinary_medicine|兽医学|STEM
    college_economics|大学经济学|Social Science
    business_administration|工商管理|Social Science
    marxism|马克思主义基本原理|Social Science
    mao_zedong_thought|毛泽东思想和中国特色社会主义理论体系概论|Social Science
    education_science|教育学|Social Science
    teacher_qualification|教师资格|Social Science
    high_school_politics|高中政治|Social Science
    high_school_geography|高中地理|Social Science
    middle_school_politics|初中政治|Social Science
    middle_school_geography|初中地理|Social Science
    modern_chinese_history|近代史纲要|Humanities
    ideological_and_moral_cultivation|思想道德修养与法律基础|Humanities
    logic|逻辑学|Humanities
    law|法学|Humanities
    chinese_language_and_literature|中国语言文学|Humanities
    art_studies|艺术学|Humanities
    professional_tour_guide|导游资格|Humanities
    legal_professional|法律职业资格|Humanities
    high_school_chinese|高中语文|Humanities
    high_school_history|高中历史|Humanities
    middle_school_history|初中历史|Humanities
    civil_servant|公务员|Other
    sports_science|体育学|Other
    plant_protection|植物保护|Other
    basic_medicine|基础医学|Other
    clinical_medicine|临床医学|Other
    urban_and_rural_planner|注册城乡规划师|Other
    accountant|注册会计师|Other
    fire_engineer|注册消防工程师|Other
    environmental_impact_assessment_engineer|环境影响评价工程师|Other
    tax_accountant|税务师|Other
    physician|医师资格|Other
    """)

  /// 67 subjects.
  static let cmmlu: [Row] = rows(
    """
    agronomy|农学|agronomy
    anatomy|解剖学|anatomy
    ancient_chinese|古汉语|ancient_chinese
    arts|艺术学|arts
    astronomy|天文学|astronomy
    business_ethics|商业伦理|business_ethics
    chinese_civil_service_exam|中国公务员考试|ancient_chinese
    chinese_driving_rule|中国驾驶规则|agronomy
    chinese_food_culture|中国饮食文化|ancient_chinese
    chinese_foreign_policy|中国外交政策|ancient_chinese
    chinese_history|中国历史|ancient_chinese
    chinese_literature|中国文学|ancient_chinese
    chinese_teacher_qualification|中国教师资格|ancient_chinese
    clinical_knowledge|临床知识|agronomy
    college_actuarial_science|大学精算学|college_actuarial_science
    college_education|大学教育学|chinese_teacher_qualification
    college_engineering_hydrology|大学工程水文学|college_engineering_hydrology
    college_law|大学法律|college_law
    college_mathematics|大学数学|college_actuarial_science
    college_medical_statistics|大学医学统计|college_medical_statistics
    college_medicine|大学医学|agronomy
    computer_science|计算机科学|computer_science
    computer_security|计算机安全|agronomy
    conceptual_physics|概念物理学|astronomy
    construction_project_management|建设工程管理|agronomy
    economics|经济学|economics
    education|教育学|chinese_teacher_qualification
    electrical_engineering|电气工程|college_engineering_hydrology
    elementary_chinese|小学语文|ancient_chinese
    elementary_commonsense|小学常识|agronomy
    elementary_information_and_technology|小学信息技术|agronomy
    elementary_mathematics|初等数学|college_actuarial_science
    ethnology|民族学|ancient_chinese
    food_science|食品科学|agronomy
    genetics|遗传学|anatomy
    global_facts|全球事实|global_facts
    high_school_biology|高中生物|anatomy
    high_school_chemistry|高中化学|high_school_chemistry
    high_school_geography|高中地理|high_school_geography
    high_school_mathematics|高中数学|college_actuarial_science
    high_school_physics|高中物理学|astronomy
    high_school_politics|高中政治|ancient_chinese
    human_sexuality|人类性行为|agronomy
    international_law|国际法学|college_law
    journalism|新闻学|journalism
    jurisprudence|法理学|college_law
    legal_and_moral_basis|法律与道德基础|agronomy
    logical|逻辑学|logical
    machine_learning|机器学习|computer_science
    management|管理学|business_ethics
    marketing|市场营销|business_ethics
    marxist_theory|马克思主义理论|logical
    modern_chinese|现代汉语|ancient_chinese
    nutrition|营养学|agronomy
    philosophy|哲学|logical
    professional_accounting|专业会计|business_ethics
    professional_law|专业法学|college_law
    professional_medicine|专业医学|agronomy
    professional_psychology|专业心理学|professional_psychology
    public_relations|公共关系|chinese_civil_service_exam
    security_study|安全研究|chinese_civil_service_exam
    sociology|社会学|chinese_food_culture
    sports_science|体育学|agronomy
    traditional_chinese_medicine|中医中药|agronomy
    virology|病毒学|anatomy
    world_history|世界历史|chinese_history
    world_religions|世界宗教|global_facts
    """)

  /// 57 subjects.
  static let mmlu: [Row] = rows(
    """
    abstract_algebra|abstract algebra|STEM
    anatomy|anatomy|STEM
    astronomy|astronomy|STEM
    business_ethics|business ethics|Other
    clinical_knowledge|clinical knowledge|Other
    college_biology|college biology|STEM
    college_chemistry|college chemistry|STEM
    college_computer_science|college computer science|STEM
    college_mathematics|college mathematics|STEM
    college_medicine|college medicine|Other
    college_physics|college physics|STEM
    computer_security|computer security|STEM
    conceptual_physics|conceptual physics|STEM
    econometrics|econometrics|Social Sciences
    electrical_engineering|electrical engineering|STEM
    elementary_mathematics|elementary mathematics|STEM
    formal_logic|formal logic|Humanities
    global_facts|global facts|Other
    high_school_biology|high school biology|STEM
    high_school_chemistry|high school chemistry|STEM
    high_school_computer_science|high school computer science|STEM
    high_school_european_history|high school european history|Humanities
    high_school_geography|high school geography|Social Sciences
    high_school_government_and_politics|high school government and politics|Social Sciences
    high_school_macroeconomics|high school macroeconomics|Social Sciences
    high_school_mathematics|high school mathematics|STEM
    high_school_microeconomics|high school microeconomics|Social Sciences
    high_school_physics|high school physics|STEM
    high_school_psychology|high school psychology|Social Sciences
    high_school_statistics|high school statistics|STEM
    high_school_us_history|high school us history|Humanities
    high_school_world_history|high school world history|Humanities
    human_aging|human aging|Other
    human_sexuality|human sexuality|Social Sciences
    international_law|international law|Humanities
    jurisprudence|jurisprudence|Humanities
    logical_fallacies|logical fallacies|Humanities
    machine_learning|machine learning|STEM
    management|management|Other
    marketing|marketing|Other
    medical_genetics|medical genetics|Other
    miscellaneous|miscellaneous|Other
    moral_disputes|moral disputes|Humanities
    moral_scenarios|moral scenarios|Humanities
    nutrition|nutrition|Other
    philosophy|philosophy|Humanities
    prehistory|prehistory|Humanities
    professional_accounting|professional accounting|Other
    professional_law|professional law|Humanities
    professional_medicine|professional medicine|Other
    professional_psychology|professional psychology|Social Sciences
    public_relations|public relations|Social Sciences
    security_studies|security studies|Social Sciences
    sociology|sociology|Social Sciences
    us_foreign_policy|us foreign policy|Social Sciences
    virology|virology|Other
    world_religions|world religions|Humanities
    """)

  private static func rows(_ text: String) -> [Row] {
    text.split(separator: "\n").map { line in
      let parts = line.split(separator: "|").map(String.init)
      return Row(name: parts[0], title: parts[1], group: parts[2])
    }
  }
}
