// Package resourcetype knows FHIR's resource types, for finding misspelt ones: a type
// that FHIR does not have is watched, read and looked for in vain, without any error.
package resourcetype

import (
	"slices"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/spelling"
)

// names are the types of FHIR R4 and STU3 (https://hl7.org/fhir/R4/resourcelist.html),
// which name the FHIR server's collections.
const names = `Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse
AuditEvent Basic Binary BiologicallyDerivedProduct BodySite BodyStructure Bundle CapabilityStatement CarePlan
CareTeam CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem
Communication CommunicationRequest CompartmentDefinition Composition ConceptMap Condition Consent Contract
Coverage CoverageEligibilityRequest CoverageEligibilityResponse DataElement DetectedIssue Device DeviceComponent
DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference
EffectEvidenceSynthesis EligibilityRequest EligibilityResponse Encounter Endpoint EnrollmentRequest
EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExpansionProfile
ExplanationOfBenefit ExportStatus FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse
HealthcareService ImagingManifest ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation
ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure MeasureReport Media Medication
MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest MedicationStatement
MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured MedicinalProductPackaged
MedicinalProductPharmaceutical MedicinalProductUndesirableEffect MessageDefinition MessageHeader
MolecularSequence NamingSystem NutritionOrder Observation ObservationDefinition OperationDefinition
OperationOutcome Organization OrganizationAffiliation Parameters Patient PaymentNotice PaymentReconciliation
Person PlanDefinition Practitioner PractitionerRole Procedure ProcedureRequest ProcessRequest ProcessResponse
Provenance Questionnaire QuestionnaireResponse ReferralRequest RelatedPerson RequestGroup ResearchDefinition
ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule
SearchParameter Sequence ServiceDefinition ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition
StructureMap Subscription Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein
SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task
TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription`

// All are the names of all types.
func All() []string { return strings.Fields(names) }

// Known tells whether FHIR has a type of this name, which is in FHIR's letter case.
func Known(name string) bool { return slices.Contains(strings.Fields(names), name) }

// Meant is the type that was probably meant by a name that is not Known; empty if none
// is near.
func Meant(name string) string {
	distance := func(known string) int {
		return spelling.Distance(strings.ToLower(name), strings.ToLower(known))
	}
	nearest := slices.MinFunc(strings.Fields(names), func(a, b string) int { return distance(a) - distance(b) })
	if distance(nearest) > max(2, len(name)/3) {
		return ""
	}
	return nearest
}
