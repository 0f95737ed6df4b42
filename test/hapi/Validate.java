import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/** Reads a resource a line, and prints a line for each fault, then one that is empty. */
public class Validate {
  public static void main(String[] args) throws Exception {
    FhirContext r4 = FhirContext.forR4();
    FhirValidator validator = r4.newValidator().registerValidatorModule(new FhirInstanceValidator(new ValidationSupportChain(
        new DefaultProfileValidationSupport(r4), new CommonCodeSystemsTerminologyService(r4), new InMemoryTerminologyServerValidationSupport(r4))));
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    for (String resource; (resource = in.readLine()) != null; ) {
      for (SingleValidationMessage fault : validator.validateWithResult(resource).getMessages()) {
        out.println(fault.getSeverity() + " " + fault.getLocationString() + ": " + fault.getMessage().replaceAll("\\s+", " "));
      }
      out.println();
    }
  }
}
