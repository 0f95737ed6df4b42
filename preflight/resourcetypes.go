package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
)

// resourceTypes are those of FHIR R4 and STU3 (https://hl7.org/fhir/R4/resourcelist.html),
// which name the FHIR server's collections.
const resourceTypes = `Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse
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

// ResourceTypes checks that the names are of types that FHIR has: one that is spelt
// wrongly is watched in vain, without any error.
func ResourceTypes(names []string) []Finding {
	known := strings.Fields(resourceTypes)
	var findings []Finding
	for _, name := range names {
		if !slices.Contains(known, name) {
			findings = append(findings, warning("resource type "+name, "FHIR has no such type, so nothing of it will ever be written", didYouMean(name, known)))
		}
	}
	if len(findings) == 0 {
		return []Finding{ok("resource types", "%s", or(strings.Join(names, ", "), "none"))}
	}
	return findings
}

// didYouMean advises the name that is nearest to a wrong one.
func didYouMean(name string, known []string) string {
	distance := func(a string) int {
		return levenshtein.ComputeDistance(strings.ToLower(name), strings.ToLower(a))
	}
	nearest := slices.MinFunc(known, func(a, b string) int { return distance(a) - distance(b) })
	if distance(nearest) > max(2, len(name)/3) {
		return "correct events.change.resources (KAFKA_ENABLED_RESOURCES)"
	}
	return fmt.Sprintf("did you mean %s? Correct events.change.resources (KAFKA_ENABLED_RESOURCES)", nearest)
}
